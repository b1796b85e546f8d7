import { fail } from "../errors.ts";
import { type DType, dtypes } from "../tensor/dtype.ts";
import { sizeOf, type Tensor, tensor } from "../tensor/tensor.ts";

/** What {@link unpickle} gives: plain data only. */
export type Pickled = null | boolean | number | string | Uint8Array | Tensor | Pickled[] | Map<Pickled, Pickled>;

const mark: unique symbol = Symbol("mark");

/** Things on the machine's stack that are not data yet: the only callables known, and arrays being built. */
type Builder =
  | { readonly make: "reconstruct" | "frombuffer" | "ndarray" | "dtype" | "encode" }
  | { readonly built: "array"; tensor?: Tensor }
  | { readonly built: "dtype"; readonly code: string; order: string };
type Item = Pickled | Builder | typeof mark;

const latin1 = new TextDecoder("latin1");
const utf8 = new TextDecoder();

/** The only names a pickle may refer to. Nothing is imported or called: each stands for a rule below. */
const known: Readonly<Record<string, Builder>> = {
  "numpy.core.multiarray _reconstruct": { make: "reconstruct" },
  "numpy._core.multiarray _reconstruct": { make: "reconstruct" },
  "numpy.core.numeric _frombuffer": { make: "frombuffer" },
  "numpy._core.numeric _frombuffer": { make: "frombuffer" },
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
 * Never runs code: a pickle that refers to anything else is refused. Short byte strings of python 2 come as text
 * (Latin-1), long ones as bytes.
 *
 * @param who what to call the file in messages
 * @throws PareError where the data is damaged, or is not plain data
 */
export function unpickle(bytes: Uint8Array, who = "pickle"): Pickled {
  const reader = readerOf(bytes, who);
  const stack = stackOf(who);
  const operations = { ...literals(reader, stack), ...builders(reader, stack, who) };
  for (;;) {
    const code = reader.number(1);
    if (code === stop) return asData(stack.pop(), who);
    (operations[code] ?? damaged(who, `operation ${code} is not known`))();
  }
}

const stop = 46;

type Operations = Readonly<Record<number, () => void>>;

function damaged(who: string, what: string): never {
  return fail(who, `is a damaged pickle: ${what}`, "Download it again");
}

/** The bytes, one after the other. */
function readerOf(bytes: Uint8Array, who: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  const take = (length: number): Uint8Array => {
    if (at + length > bytes.length) damaged(who, `${length} bytes are missing at byte ${at}`);
    at += length;
    return bytes.subarray(at - length, at);
  };
  const number = (width: 1 | 2 | 4 | 8): number => {
    const start = at;
    take(width);
    if (width === 1) return view.getUint8(start);
    if (width === 2) return view.getUint16(start, true);
    return width === 4 ? view.getUint32(start, true) : Number(view.getBigUint64(start, true));
  };
  return {
    take,
    number,
    float: (): number => {
      take(8);
      return view.getFloat64(at - 8);
    },
    line: (): string => {
      const end = bytes.indexOf(10, at);
      if (end < 0) damaged(who, "a line has no end");
      const text = utf8.decode(take(end - at));
      at++;
      return text;
    },
  };
}

/** The machine's stack and memo. */
function stackOf(who: string) {
  const items: Item[] = [];
  const memo = new Map<number, Item>();
  return {
    push: (item: Item): void => void items.push(item),
    pop: (): Item => (items.length > 0 ? items.pop()! : damaged(who, "the stack is empty")),
    top: (): Item => (items.length > 0 ? items.at(-1)! : damaged(who, "the stack is empty")),
    /** Everything above the last mark, as data; the mark goes too. */
    sinceMark: (): Pickled[] => {
      const from = items.lastIndexOf(mark);
      if (from < 0) damaged(who, "a mark is missing");
      return items
        .splice(from)
        .slice(1)
        .map((item) => asData(item, who));
    },
    store: (key: number): void => void memo.set(key, items.at(-1) ?? null),
    memoize: (): void => void memo.set(memo.size, items.at(-1) ?? null),
    recall: (key: number): void => {
      if (!memo.has(key)) damaged(who, `there is no memo ${key}`);
      items.push(memo.get(key)!);
    },
  };
}

type Reader = ReturnType<typeof readerOf>;
type Stack = ReturnType<typeof stackOf>;

/** Operations that push a constant, or only move things (python's pickletools names them). */
function literals(
  { take, number, float }: Reader,
  { push, pop, sinceMark, store, memoize, recall }: Stack,
): Operations {
  return {
    128: () => void take(1), // PROTO
    149: () => void take(8), // FRAME
    40: () => push(mark),
    48: () => void pop(),
    49: () => void sinceMark(), // POP_MARK
    113: () => store(number(1)), // BINPUT
    114: () => store(number(4)), // LONG_BINPUT
    148: memoize,
    104: () => recall(number(1)), // BINGET
    106: () => recall(number(4)), // LONG_BINGET
    78: () => push(null),
    136: () => push(true),
    137: () => push(false),
    75: () => push(number(1)), // BININT1
    77: () => push(number(2)), // BININT2
    74: () => push(number(4) | 0), // BININT
    138: () => push(long(take(number(1)))), // LONG1
    71: () => push(float()), // BINFLOAT
    85: () => push(latin1.decode(take(number(1)))), // SHORT_BINSTRING
    84: () => push(take(number(4))), // BINSTRING
    67: () => push(take(number(1))), // SHORT_BINBYTES
    66: () => push(take(number(4))), // BINBYTES
    142: () => push(take(number(8))), // BINBYTES8
    150: () => push(take(number(8))), // BYTEARRAY8
    140: () => push(utf8.decode(take(number(1)))), // SHORT_BINUNICODE
    88: () => push(utf8.decode(take(number(4)))), // BINUNICODE
  };
}

/** Operations that make collections and objects. */
function builders({ line }: Reader, { push, pop, top, sinceMark }: Stack, who: string): Operations {
  const list = (): Pickled[] => {
    const target = top();
    return Array.isArray(target) ? target : damaged(who, "a list is missing");
  };
  const set = (flat: readonly Pickled[]): void => {
    const target = top();
    const map: Map<Pickled, Pickled> = target instanceof Map ? target : damaged(who, "a dictionary is missing");
    for (let i = 0; i + 1 < flat.length; i += 2) map.set(flat[i]!, flat[i + 1]!);
  };
  const last = (count: number): Pickled[] => Array.from({ length: count }, () => asData(pop(), who)).reverse();
  const global = (module: string, name: string): Builder =>
    known[`${module} ${name}`] ??
    fail(who, `refers to '${module}.${name}'`, "Only plain data and NumPy arrays are read, nothing is executed");
  return {
    125: () => push(new Map()), // EMPTY_DICT
    93: () => push([]), // EMPTY_LIST
    41: () => push([]), // EMPTY_TUPLE
    116: () => push(sinceMark()), // TUPLE
    133: () => push(last(1)), // TUPLE1
    134: () => push(last(2)), // TUPLE2
    135: () => push(last(3)), // TUPLE3
    97: () => {
      const [item] = last(1); // APPEND
      list().push(item!);
    },
    101: () => {
      for (const item of sinceMark()) list().push(item); // APPENDS
    },
    115: () => set(last(2)), // SETITEM
    117: () => set(sinceMark()), // SETITEMS
    99: () => push(global(line(), line())), // GLOBAL
    147: () => {
      const [module, name] = last(2); // STACK_GLOBAL
      push(global(String(module), String(name)));
    },
    82: () => {
      const given = pop(); // REDUCE
      push(reduce(pop(), given, who));
    },
    98: () => {
      const state = pop(); // BUILD
      build(top(), state, who);
    },
  };
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
  if (callee.make === "encode") return latin1Bytes(given[0]);
  if (callee.make === "frombuffer") {
    const [raw, type, shape, order] = given as Item[];
    return arrayOf(type!, shape!, order === "F", raw!, who);
  }
  return fail(who, `calls '${callee.make}'`, "Only plain data and NumPy arrays are read");
}

function latin1Bytes(text: unknown): Uint8Array {
  return Uint8Array.from(String(text), (letter) => letter.charCodeAt(0));
}

function build(target: Item, state: Item, who: string): void {
  if (!target || typeof target !== "object" || !("built" in target) || !Array.isArray(state)) {
    fail(who, "holds an object that is not an array", "Only plain data and NumPy arrays are read");
  }
  if (target.built === "dtype") target.order = String(state[1]);
  else {
    const [, shape, type, fortran, raw] = state as Item[];
    target.tensor = arrayOf(type!, shape!, fortran === true, raw!, who);
  }
}

function arrayOf(type: Item, shape: Item, fortran: boolean, raw: Item, who: string): Tensor {
  if (!type || typeof type !== "object" || !("built" in type) || type.built !== "dtype" || !Array.isArray(shape)) {
    return fail(who, "holds an array without a type or a shape");
  }
  const dtype = arrayTypes[type.code];
  if (!dtype) return fail(who, `holds an array of type '${type.code}'`, "Only plain numbers are read");
  if (fortran || type.order === ">") return fail(who, "holds an array in column-major or big-endian order");
  const bytes = raw instanceof Uint8Array ? raw : latin1Bytes(raw);
  const sizes = shape.map(Number);
  const expected = (sizeOf(sizes, who) * dtypes[dtype].bits) / 8;
  if (bytes.length !== expected) fail(who, `holds ${bytes.length} bytes for an array of ${expected}`);
  return tensor(dtype, sizes, bytes);
}
