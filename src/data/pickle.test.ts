import { expect, test } from "vitest";
import { toNumbers } from "../tensor/tensor.ts";
import { type Pickled, unpickle } from "./pickle.ts";

/**
 * pickle.dumps({b"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": [1, 70000, -3],
 * "t": (1.5, None, True, "é"), "big": 2**40}, protocol) of Python 3.
 */
const pickles: Readonly<Record<number, string>> = {
  2: [
    "gAJ9cQAoY19jb2RlY3MKZW5jb2RlCnEBWAQAAABkYXRhcQJYBgAAAGxhdGluMXEDhnEEUnEFY251bXB5Ll9jb3JlLm11bHRpYXJy",
    "YXkKX3JlY29uc3RydWN0CnEGY251bXB5Cm5kYXJyYXkKcQdLAIVxCGgBWAEAAABicQloA4ZxClJxC4dxDFJxDShLAUsCSwOGcQ5j",
    "bnVtcHkKZHR5cGUKcQ9YAgAAAHUxcRCJiIdxEVJxEihLA1gBAAAAfHETTk5OSv////9K/////0sAdHEUYoloAVgGAAAAAAECAwQF",
    "cRVoA4ZxFlJxF3RxGGJYBgAAAGxhYmVsc3EZXXEaKEsBSnARAQBK/f///2VYAQAAAHRxGyhHP/gAAAAAAABOiFgCAAAAw6lxHHRx",
    "HVgDAAAAYmlncR6KBgAAAAAAAXUu",
  ].join(""),
  4: [
    "gASV2gAAAAAAAAB9lChDBGRhdGGUjBZudW1weS5fY29yZS5tdWx0aWFycmF5lIwMX3JlY29uc3RydWN0lJOUjAVudW1weZSMB25k",
    "YXJyYXmUk5RLAIWUQwFilIeUUpQoSwFLAksDhpRoBYwFZHR5cGWUk5SMAnUxlImIh5RSlChLA4wBfJROTk5K/////0r/////SwB0",
    "lGKJQwYAAQIDBAWUdJRijAZsYWJlbHOUXZQoSwFKcBEBAEr9////ZYwBdJQoRz/4AAAAAAAAToiMAsOplHSUjANiaWeUigYAAAAA",
    "AAF1Lg==",
  ].join(""),
  5: [
    "gAWVxQAAAAAAAAB9lChDBGRhdGGUjBNudW1weS5fY29yZS5udW1lcmljlIwLX2Zyb21idWZmZXKUk5QolgYAAAAAAAAAAAECAwQF",
    "lIwFbnVtcHmUjAVkdHlwZZSTlIwCdTGUiYiHlFKUKEsDjAF8lE5OTkr/////Sv////9LAHSUYksCSwOGlIwBQ5R0lFKUjAZsYWJl",
    "bHOUXZQoSwFKcBEBAEr9////ZYwBdJQoRz/4AAAAAAAAToiMAsOplHSUjANiaWeUigYAAAAAAAF1Lg==",
  ].join(""),
};

const text = (key: Pickled): string => (key instanceof Uint8Array ? new TextDecoder().decode(key) : String(key));

test.each(Object.keys(pickles))("reads protocol %s", (protocol) => {
  const read = unpickle(Buffer.from(pickles[Number(protocol)]!, "base64")) as Map<Pickled, Pickled>;
  const found = new Map([...read].map(([key, value]) => [text(key), value]));
  expect([...found.keys()]).toEqual(["data", "labels", "t", "big"]);
  const data = found.get("data") as Parameters<typeof toNumbers>[0];
  expect([data.dtype, data.shape, toNumbers(data)]).toEqual(["uint8", [2, 3], [0, 1, 2, 3, 4, 5]]);
  expect(found.get("labels")).toEqual([1, 70000, -3]);
  expect(found.get("t")).toEqual([1.5, null, true, "é"]);
  expect(found.get("big")).toBe(2 ** 40);
});

test("damaged pickles give an error, wherever they are cut", () => {
  const whole = Buffer.from(pickles[4]!, "base64");
  for (let length = 0; length < whole.length; length++) {
    expect(() => unpickle(whole.subarray(0, length), "cut")).toThrow("cut: ");
  }
});

test.each([
  ["a call", "cos\nsystem\n(U\x02lsR.", "refers to 'os.system'"],
  ["builtins", "c__builtin__\neval\n.", "refers to '__builtin__.eval'"],
  ["an operation of protocol 0", "S'x'\n.", "operation 83"],
  ["an empty stack", ".", "the stack is empty"],
  ["a memo that is not there", "h\x05.", "no memo 5"],
])("refuses %s", (_, pickle, message) => {
  expect(() => unpickle(Buffer.from(pickle, "latin1"), "evil")).toThrow(message);
});
