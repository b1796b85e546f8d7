import { fail } from "../errors.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { type Tensor, tensor } from "../tensor/tensor.ts";

/** What {@link unpickle} gives: plain data only. */
export type Pickled = null | boolean | number | string | Uint8Array | Tensor | Pickled[] | Map<Pickled, Pickled>;

const mark: unique symbol = Symbol("mark");

/** Things on the machine's stack that are not data yet: the only callables known, and arrays being built. */
type Builder =
  | { readonly make: "reconstruct" | "ndarray" | "dtype" | "encode" | "frombuffer" }
  | { readonly built: "array"; tensor?: Tensor }
  | { readonly built: "dtype"; readonly code: string; order: string };
type Item = Pickled | Builder | typeof mark;

const latin1 = new TextDecoder("latin1");
const utf8 = new TextDecoder();

/** The only names a pickle may refer to. Nothing is imported or called: each stands for a rule below. */
const known: Readonly<Record<string, Builder>> = {
  "numpy.core.multiarray _reconstruct": { make: "reconstruct" },
  "numpy._core.multiarray _reconstruct": { make: "reconstruct" },
  "numpy ndarray": { make: "ndarray" },
  "numpy dtype": { make: "dtype" },
  "_codecs encode": { make: "encode" },
};

const arrayTypes: Readonly<Record<string, DType>> = {
  u1: "uint8",
  i1: "int8",
  i2: "int16",
  u2: "uint16",
  i4: "int32",
  i8: "int64",
  f4: "float32",
  f8: "float64",
  b1: "bool",
};

/**
 * Reads a python pickle (protocols 2 to 5) of plain data: dictionaries, lists, tuples, numbers, strings, NumPy arrays.
 * Never runs code: a pickle that refers to anything else is refused. Byte strings of python 2 come as text (Latin-1).
 *
 * @param who what to call the file in messages
 * @throws PareError where the data is damaged, or is not plain data
 */
export function unpickle(bytes: Uint8Array, who = "pickle"): Pickled {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: Item[] = [];
  const memo = new Map<number, Item>();
  let at = 0;
  const damaged = (what: string): never => fail(who, `is a damaged pickle: ${what} at byte ${at}`, "Download it again");
  const take = (length: number): Uint8Array => {
    if (length < 0 || at + length > bytes.length) damaged(`${length} bytes are missing`);
    at += length;
    return bytes.subarray(at - length, at);
  };
  const number = (width: 1 | 2 | 4 | 8): number => {
    take(width);
    if (width === 1) return view.getUint8(at - 1);
    if (width === 2) return view.getUint16(at - 2, true);
    return width === 4 ? view.getUint32(at - 4, true) : Number(view.getBigUint64(at - 8, true));
  };
  const pop = (): Item => (stack.length > 0 ? stack.pop()! : damaged("the stack is empty"));
  const line = (): string => {
    const end = bytes.indexOf(10, at);
    if (end < 0) damaged("a line has no end");
    const text = utf8.decode(take(end - at));
    at++;
    return text;
  };
  const sinceMark = (): Item[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) damaged("a mark is missing");
    return stack.splice(from).slice(1);
  };
  const data = (items: readonly Item[]): Pickled[] => items.map((item) => asData(item, who));
  const global = (module: string, name: string): Builder =>
    known[`${module} ${name}`] ??
    fail(who, `refers to '${module}.${name}'`, "Only plain data and NumPy arrays are read, nothing is executed");
  const append = (items: readonly Item[]): void => {
    const list = stack.at(-1);
    if (!Array.isArray(list)) return void damaged("a list is missing");
    list.push(...data(items));
  };
  const put = (items: readonly Item[]): void => {
    const map = stack.at(-1);
    if (!(map instanceof Map)) return void damaged("a dictionary is missing");
    const flat = data(items);
    for (let i = 0; i + 1 < flat.length; i += 2) map.set(flat[i]!, flat[i + 1]!);
  };
  const recall = (key: number): Item => memo.get(key) ?? (memo.has(key) ? null : damaged(`no memo ${key}`));
  const operations: Readonly<Record<number, () => void>> = {
    128: () => void take(1), // PROTO
    149: () => void take(8), // FRAME
    40: () => stack.push(mark),
    48: () => void pop(), // POP
    49: () => void sinceMark(), // POP_MARK
    125: () => stack.push(new Map()),
    93: () => stack.push([]),
    41: () => stack.push([]), // EMPTY_TUPLE
    116: () => stack.push(data(sinceMark()) as Pickled[]), // TUPLE
    133: () => stack.push(tuple([pop()])),
    134: () => stack.push(tuple([pop(), pop()])),
    135: () => stack.push(tuple([pop(), pop(), pop()])),
    113: () => memo.set(number(1), stack.at(-1)!), // BINPUT
    114: () => memo.set(number(4), stack.at(-1)!),
    148: () => memo.set(memo.size, stack.at(-1)!), // MEMOIZE
    104: () => stack.push(recall(number(1))), // BINGET
    106: () => stack.push(recall(number(4))),
    78: () => stack.push(null),
    136: () => stack.push(true),
    137: () => stack.push(false),
    75: () => stack.push(number(1)), // BININT1
    77: () => stack.push(number(2)),
    74: () => stack.push(number(4) | 0), // BININT
    138: () => stack.push(long(take(number(1)))), // LONG1
    71: () => stack.push(new DataView(take(8).slice().buffer).getFloat64(0)), // BINFLOAT
    85: () => stack.push(latin1.decode(take(number(1)))), // SHORT_BINSTRING
    84: () => stack.push(python2Bytes(take(number(4)))), // BINSTRING
    67: () => stack.push(take(number(1))), // SHORT_BINBYTES
    66: () => stack.push(take(number(4))),
    142: () => stack.push(take(number(8))), // BINBYTES8
    150: () => stack.push(take(number(8))), // BYTEARRAY8
    140: () => stack.push(utf8.decode(take(number(1)))), // SHORT_BINUNICODE
    88: () => stack.push(utf8.decode(take(number(4)))), // BINUNICODE
    97: () => append([pop()]), // APPEND
    101: () => append(sinceMark()),
    115: () => {
      const value = pop(); // SETITEM
      put([pop(), value]);
    },
    117: () => put(sinceMark()),
    99: () => stack.push(global(line(), line())), // GLOBAL
    147: () => {
      const name = pop();
      stack.push(global(String(pop()), String(name))); // STACK_GLOBAL
    },
    82: () => {
      const given = pop(); // REDUCE
      stack.push(reduce(pop(), given, who));
    },
    98: () => {
      const state = pop(); // BUILD
      build(stack.at(-1)!, state, who);
    },
  };
  const tuple = (items: Item[]): Item => data(items.reverse());
  for (;;) {
    const code = number(1);
    if (code === 46) return asData(pop(), who); // STOP
    const operation = operations[code];
    if (!operation) damaged(`operation ${code} is not known`);
    operation!();
  }
}

/** A long string of python 2 is an array's data, so it stays bytes. */
function python2Bytes(bytes: Uint8Array): Pickled {
  return bytes;
}

function long(bytes: Uint8Array): number {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return Number(BigInt.asIntN(8 * bytes.length, value));
}

function asData(item: Item, who: string): Pickled {
  if (item instanceof Map || Array.isArray(item) || item instanceof Uint8Array) return item;
  if (item === null || typeof item !== "object")
    return typeof item === "symbol" ? fail(who, "is a damaged pickle") : item;
  if ("built" in item && item.built === "array") return item.tensor ?? fail(who, "holds an array without data");
  return "dtype" in item ? item : (item as unknown as Pickled);
}

function reduce(callee: Item, given: Item, who: string): Item {
  if (!Array.isArray(given) || !callee || typeof callee !== "object" || !("make" in callee)) {
    return fail(who, "calls something that is not known", "Only plain data and NumPy arrays are read");
  }
  if (callee.make === "reconstruct") return { built: "array" };
  if (callee.make === "dtype") return { built: "dtype", code: String(given[0]), order: "<" };
  if (callee.make === "encode") return Uint8Array.from(String(given[0]), (letter) => letter.charCodeAt(0));
  return fail(who, `calls '${callee.make}'`, "Only plain data and NumPy arrays are read");
}

function build(target: Item, state: Item, who: string): void {
  if (!target || typeof target !== "object" || !("built" in target) || !Array.isArray(state)) {
    fail(who, "holds an object that is not an array", "Only plain data and NumPy arrays are read");
  }
  if (target.built === "dtype") {
    target.order = String(state[1]);
    return;
  }
  const [, shape, type, fortran, raw] = state as unknown as [number, number[], Builder, boolean, Uint8Array | string];
  if (!("built" in type) || type.built !== "dtype") fail(who, "holds an array without a type");
  const dtype = arrayTypes[type.code];
  if (!dtype) fail(who, `holds an array of type '${type.code}'`, "Only plain numbers are read");
  if (fortran || type.order === ">") fail(who, "holds an array in column-major or big-endian order");
  const bytes = typeof raw === "string" ? Uint8Array.from(raw, (letter) => letter.charCodeAt(0)) : raw;
  const count = shape.reduce((a, b) => a * b, 1);
  if (bytes.length !== (count * dtypes[dtype].bits) / 8)
    fail(who, `holds an array of ${bytes.length} bytes for ${count}`);
  target.tensor = tensor(dtype, shape, bytes);
}
