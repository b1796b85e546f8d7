import { fail } from "../errors.ts";
import { readNpy } from "../formats/npy.ts";
import { int64, tensor, toNumbers } from "../tensor/tensor.ts";
import type { DataFile } from "./files.ts";
import { bySplit, datasetOf, type Samples, sortSplits, splitOfName } from "./samples.ts";
import { type DataSource, type DatasetKind, filesNamed, sampleInput } from "./source.ts";

const tokenName = /\.(bin|npy|txt)(\.gz|\.br)?$/i;

/**
 * Text for a language model: token ids (.bin holds uint16, as in nanoGPT's files; .npy any integers), or plain text
 * and a tokenizer. A sample is a window of T tokens; windows do not overlap, and where they are shuffled they begin at a
 * place of the seed's. Its labels `[n, T]` are the tokens one place later.
 */
export const tokens: DatasetKind = {
  name: "tokens",
  summary: "token files for language models: train.bin, val.bin (uint16), integer .npy, or .txt with a tokenizer",
  detect: async (source) => {
    const type = source.options.inputs[0]?.type;
    const integers = type?.kind === "tensor" && (type.dtype === "int64" || type.dtype === "int32");
    if (!integers || source.entries.some(({ name }) => /\.npz$/i.test(name))) return false;
    for (const file of tokenFiles(source)) if (await isRun(file)) return true;
    return false;
  },
  async open(source) {
    const files = tokenFiles(source);
    const splits = new Map<string, Samples>();
    const named = files.length === 1 ? new Map([["all", files[0]!]]) : bySplit(source.path, files);
    for (const [split, file] of named) {
      splits.set(split, windows(source, await openIds(source, file), file.path));
    }
    return datasetOf(source.path, sortSplits(splits));
  },
};

/** The token files of the source: the only one, or those named after a split. */
function tokenFiles(source: DataSource): DataFile[] {
  const files = filesNamed(source, tokenName);
  return files.length === 1 ? files : files.filter((file) => splitOfName(file.name) !== undefined);
}

/** Whether a file holds one run of tokens; an array of two axes holds samples of its own. */
async function isRun(file: DataFile): Promise<boolean> {
  if (!/\.npy$/i.test(file.name)) return true;
  const header = new TextDecoder("latin1").decode(await file.read(0, Math.min(256, await file.size())));
  return /'shape': \(\d+,\)/.test(header);
}

/** A long run of token ids, in random access. */
interface Ids {
  readonly count: number;
  read(from: number, count: number): Promise<ArrayLike<number>>;
}

async function openIds({ options }: DataSource, file: DataFile): Promise<Ids> {
  const size = await file.size();
  const held = (ids: readonly number[]): Ids => ({
    count: ids.length,
    read: async (from, count) => ids.slice(from, from + count),
  });
  if (/\.npy$/i.test(file.name)) return held(toNumbers(readNpy(await file.read(0, size), file.path)));
  if (/\.txt$/i.test(file.name)) {
    if (!options.tokenize) fail(file.path, "is text, but no tokenizer was given", "Give --tokenizer, or token ids");
    return held(options.tokenize(new TextDecoder().decode(await file.read(0, size))));
  }
  if (size % 2 !== 0) fail(file.path, `has ${size} bytes, an odd number`, "A .bin file of tokens holds uint16");
  return {
    count: size / 2,
    read: async (from, count) => new Uint16Array((await file.read(2 * from, 2 * count)).slice().buffer),
  };
}

function windows({ options }: DataSource, ids: Ids, path: string): Samples {
  const input = sampleInput(options);
  const type = input.type?.kind === "tensor" ? input.type : undefined;
  const fixed = type?.shape?.[1];
  const length = options.window ?? (typeof fixed === "number" ? fixed : 128);
  if (ids.count <= length) {
    fail(path, `has ${ids.count} tokens, a window takes ${length + 1}`, "Choose a shorter window");
  }
  const last = ids.count - 1 - length;
  const cutAt = (shift: number): Samples => ({
    count: Math.floor((ids.count - 1) / length),
    recut: (random) => cutAt(random.int(length)),
    async read(indices) {
      const n = indices.length;
      const given = new BigInt64Array(n * length);
      const next = new BigInt64Array(n * length);
      for (const [i, at] of indices.entries()) {
        const run = await ids.read(Math.min(at * length + shift, last), length + 1);
        for (let t = 0; t < length; t++) {
          given[i * length + t] = BigInt(run[t]!);
          next[i * length + t] = BigInt(run[t + 1]!);
        }
      }
      const fed = type?.dtype === "int32" ? tensor("int32", [n, length], Int32Array.from(given, Number)) : undefined;
      const feeds: Record<string, ReturnType<typeof int64>> = {
        [input.name]: fed ?? tensor("int64", [n, length], given),
      };
      for (const other of options.inputs)
        if (other !== input) feeds[other.name] = companion(other.name, n, length, path);
      return { inputs: feeds, labels: tensor("int64", [n, length], next), size: n };
    },
  });
  return cutAt(0);
}

/** The usual companions of token ids: a mask of ones, positions, segment zeros. */
function companion(name: string, n: number, length: number, path: string) {
  const fill = (value: (i: number) => number) =>
    int64(
      Array.from({ length: n * length }, (_, i) => value(i % length)),
      [n, length],
    );
  if (/mask/i.test(name)) return fill(() => 1);
  if (/position/i.test(name)) return fill((i) => i);
  if (/token_type|segment/i.test(name)) return fill(() => 0);
  return fail(path, `token files can't feed input '${name}'`, "Use .npz files with an array for every input");
}
