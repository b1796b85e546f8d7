import { expect, test } from "vitest";
import { didYouMean, fail, messageOf, PareError } from "./errors.ts";

test("fail makes sentences and keeps the cause", () => {
  const cause = new Error("inner");
  const thrown = (() => {
    try {
      fail("model.onnx", "can't be opened", "Check the path", cause);
    } catch (error) {
      return error as PareError;
    }
  })();
  expect(thrown).toBeInstanceOf(PareError);
  expect(thrown?.message).toBe("model.onnx: can't be opened. Check the path.");
  expect(thrown?.cause).toBe(cause);
});

test.each([
  ["quantise-static", "Did you mean 'quantize-static'?"],
  ["quantize", "Did you mean 'quantize-static' or 'quantize-dynamic'?"],
  ["zzz", ""],
])("%s", (name, expected) => {
  expect(didYouMean(name, ["quantize-static", "quantize-dynamic", "simplify"])).toBe(expected);
});

test("the message of anything thrown", () => {
  expect([messageOf(new Error("a")), messageOf("b"), messageOf(3)]).toEqual(["a", "b", "3"]);
});
