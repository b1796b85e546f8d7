import { expect, test } from "vitest";
import { z } from "zod";
import { expectation, kebabCase, optionFields, parseOptions, valueOfText } from "./options.ts";

const schema = z.object({
  ratio: z.number().min(0).max(1).default(0.3).describe("share removed"),
  perChannel: z.boolean().default(true),
  format: z.enum(["qdq", "qoperator"]).default("qdq"),
  bits: z.literal([8, 4]).default(4),
  block: z.union([z.literal("channel"), z.int().positive()]).default(32),
  exclude: z.array(z.string()).default([]),
  limit: z.int().min(1).optional(),
  shares: z.record(z.string(), z.union([z.literal(8), z.literal(4)])).default({}),
});
const [ratio, perChannel, format, bits, block, exclude] = optionFields(schema);

test("fields carry flag, types, choices, bounds and defaults", () => {
  expect(ratio).toMatchObject({ flag: "ratio", types: ["number"], minimum: 0, maximum: 1, default: 0.3 });
  expect(ratio!.description).toBe("share removed");
  expect(perChannel).toMatchObject({ flag: "per-channel", types: ["boolean"], default: true });
  expect(format).toMatchObject({ choices: ["qdq", "qoperator"], types: [] });
  expect(bits).toMatchObject({ choices: [8, 4], types: [] });
  expect(block).toMatchObject({ choices: ["channel"], types: ["integer"], above: 0 });
  expect(exclude!.items!.types).toEqual(["string"]);
  expect(kebabCase("biasCorrection")).toBe("bias-correction");
});

test("expectations read as a sentence's end", () => {
  expect(expectation(ratio!)).toBe("a number between 0 and 1");
  expect(expectation(format!)).toBe("one of 'qdq', 'qoperator'");
  expect(expectation(block!)).toBe("'channel' or an integer above 0");
  expect(expectation(exclude!)).toBe("a list, each text");
});

test("text becomes the value the option takes", () => {
  expect(valueOfText(ratio!, "0.5")).toBe(0.5);
  expect(valueOfText(bits!, "8")).toBe(8);
  expect(valueOfText(block!, "channel")).toBe("channel");
  expect(valueOfText(block!, "64")).toBe(64);
  expect(valueOfText(perChannel!, "false")).toBe(false);
  expect(valueOfText(exclude!, "a, b")).toEqual(["a", "b"]);
  expect(valueOfText(exclude!, "/x{1,2}/")).toEqual(["/x{1,2}/"]);
  expect(valueOfText(ratio!, "half")).toBe("half");
});

test("one number or a list of them", () => {
  const [size] = optionFields(z.object({ size: z.union([z.int(), z.tuple([z.int(), z.int()])]) }));
  expect(valueOfText(size!, "224")).toBe(224);
  expect(valueOfText(size!, "224,320")).toEqual([224, 320]);
});

test("good options are completed", () => {
  expect(parseOptions(schema, { bits: 8 }, "t")).toEqual({
    ratio: 0.3,
    perChannel: true,
    format: "qdq",
    bits: 8,
    block: 32,
    exclude: [],
    shares: {},
  });
});

test.each([
  [{ ratio: 2 }, "t: option 'ratio' must be a number between 0 and 1, got 2."],
  [{ format: "qdw" }, "t: option 'format' must be one of 'qdq', 'qoperator', got 'qdw'. Did you mean 'qdq'?"],
  [{ bits: 5 }, "t: option 'bits' must be one of 8, 4, got 5."],
  [{ block: 0 }, "t: option 'block' must be 'channel' or an integer above 0, got 0."],
  [{ exclude: [3] }, "t: option 'exclude' must be text, got 3."],
  [{ perchannel: true }, "t: unknown option 'perchannel'. Did you mean 'perChannel'?"],
  [{ limit: 0.5 }, "t: option 'limit' must be an integer of at least 1, got 0.5."],
  [{ shares: { a: 8, b: 5 } }, "t: option 'shares' must be one of 8, 4, got 5."],
  [{ shares: 4 }, "t: option 'shares' must be a mapping, each one of 8, 4, got 4."],
])("%j is refused", (input, message) => {
  expect(() => parseOptions(schema, input, "t")).toThrow(message);
});

test("messages name flags for the command line", () => {
  expect(() => parseOptions(schema, { perChannel: "x" }, "t", true)).toThrow(
    "option --per-channel must be true or false",
  );
});

test("a mapping is given as JSON or as pairs", () => {
  const [dims] = optionFields(z.object({ dims: z.record(z.string(), z.number()).default({}) }));
  expect(valueOfText(dims!, '{"batch": 1, "length": 16}')).toEqual({ batch: 1, length: 16 });
  expect(valueOfText(dims!, "batch=1, length=16")).toEqual({ batch: 1, length: 16 });
  expect(valueOfText(dims!, "batch")).toBe("batch");
});
