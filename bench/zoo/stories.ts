import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import type { Dataset } from "../../src/data/dataset.ts";
import { datasetOf, type Samples } from "../../src/data/samples.ts";
import { tensor } from "../../src/tensor/tensor.ts";

const bos = 1;
const window = 256;

/** A SentencePiece-style vocabulary: pieces as Latin-1 strings of their bytes, ids of bytes from 3, and scores. */
interface Vocabulary {
  readonly ids: ReadonlyMap<string, number>;
  readonly pieces: readonly string[];
  readonly scores: readonly number[];
}

/** Reads llama2.c's tokenizer file: int32 longest, then per token float32 score, int32 length, bytes. */
function readVocabulary(path: string): Vocabulary {
  const bytes = readFileSync(path);
  const pieces: string[] = [];
  const scores: number[] = [];
  for (let at = 4; at < bytes.length; ) {
    const length = bytes.readInt32LE(at + 4);
    scores.push(bytes.readFloatLE(at));
    pieces.push(bytes.toString("latin1", at + 8, at + 8 + length));
    at += 8 + length;
  }
  return { ids: new Map(pieces.map((piece, id) => [piece, id])), pieces, scores };
}

/** Token ids of a text. No piece reaches over a space, so that every word is encoded once and for all. */
function encode(text: string, vocabulary: Vocabulary, words: Map<string, readonly number[]>): number[] {
  return ` ${text}`.split(/(?= )/).flatMap((word) => {
    const known = words.get(word) ?? encodeWord(word, vocabulary);
    words.set(word, known);
    return known;
  });
}

/** Characters (or bytes, where a character has no piece), then the pair of the highest score merged, again and again. */
function encodeWord(word: string, { ids, pieces, scores }: Vocabulary): readonly number[] {
  const tokens = Array.from(word).flatMap((character) => {
    const bytes = Buffer.from(character, "utf8");
    const whole = ids.get(bytes.toString("latin1"));
    return whole === undefined ? Array.from(bytes, (byte) => byte + 3) : [whole];
  });
  for (;;) {
    let [best, at, merged] = [Number.NEGATIVE_INFINITY, -1, -1];
    for (let i = 0; i + 1 < tokens.length; i++) {
      const id = ids.get(pieces[tokens[i]!]! + pieces[tokens[i + 1]!]!);
      if (id !== undefined && scores[id]! > best) [best, at, merged] = [scores[id]!, i, id];
    }
    if (at < 0) return tokens;
    tokens.splice(at, 2, merged);
  }
}

/** Token ids of the stories, of the first `count` where that is given. */
export function readStories(data: string, count?: number): number[][] {
  const vocabulary = readVocabulary(`${data}/stories260k/tok512.bin`);
  const text = gunzipSync(readFileSync(`${data}/tinystories/tinystories_sample.txt.gz`)).toString("utf8");
  const stories = text.split("<|endoftext|>").map((story) => story.trim());
  const words = new Map<string, readonly number[]>();
  return stories.slice(0, count).map((story) => encode(story, vocabulary, words));
}

/**
 * The beginnings of stories: a start token and 255 more, and as labels the tokens that follow each. 200 stories judge,
 * 100 others calibrate.
 */
export function stories(data: string): Dataset {
  const long = readStories(data, 500).filter((story) => story.length >= window);
  const part = (own: readonly number[][]): Samples => ({
    count: own.length,
    async read(indices) {
      const inputs = BigInt64Array.from(
        indices.flatMap((i) => [bos, ...own[i]!.slice(0, window - 1)]),
        BigInt,
      );
      const labels = BigInt64Array.from(
        indices.flatMap((i) => own[i]!.slice(0, window)),
        BigInt,
      );
      const shape = [indices.length, window];
      const feeds = { input_ids: tensor("int64", shape, inputs) };
      return { inputs: feeds, labels: tensor("int64", shape, labels), size: indices.length };
    },
  });
  const [judged, others] = [long.slice(0, 200), long.slice(200, 300)];
  return datasetOf(
    "tinystories",
    new Map([
      ["calibration", part(others)],
      ["test", part(judged)],
    ]),
  );
}
