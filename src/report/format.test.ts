import { expect, test } from "vitest";
import * as format from "./format.ts";

test("significant keeps the digits asked for and never an exponent", () => {
  expect([0, 0.012345, 1.2345, 99.96, 999.6, 12345, -0.5].map((x) => format.significant(x))).toEqual([
    "0",
    "0.0123",
    "1.23",
    "100",
    "1000",
    "12300",
    "-0.500",
  ]);
  expect(format.significant(Number.NaN)).toBe("–");
});

test("units step at the number as it is shown, not as it is", () => {
  expect([0, 999, 999.7, 1500, 999_600, 44_700_000, 2.5e9].map(format.bytes)).toEqual([
    "0 B",
    "999 B",
    "1.00 kB",
    "1.50 kB",
    "1.00 MB",
    "44.7 MB",
    "2.50 GB",
  ]);
  expect([12, 272_474, 999_999, 40_812_544].map(format.compact)).toEqual(["12", "272 k", "1.00 M", "40.8 M"]);
  expect([0.0853, 0.9999, 12.34, 4100, 185_000, 7_800_000].map(format.milliseconds)).toEqual([
    "85.3 µs",
    "1.00 ms",
    "12.3 ms",
    "4.10 s",
    "3 min 5 s",
    "2 h 10 min",
  ]);
  expect([1.23e-3, 4e-6].map(format.joules)).toEqual(["1.23 mJ", "4.00 µJ"]);
});

test("metrics are shown in their unit", () => {
  expect(format.metricValue(0.91734, "%")).toBe("91.73 %");
  expect(format.metricValue(1.40321, "nats/token")).toBe("1.403 nats/token");
  expect(format.metricDifference(-0.0021, "%")).toBe("-0.21 points");
  expect(format.metricDifference(-0.00001, "%")).toBe("0.00 points");
  expect(format.metricDifference(0.25)).toBe("+0.250");
  expect([0.034, 0.5, 1e-9].map(format.pValue)).toEqual(["p = 0.03", "p = 0.50", "p < 0.001"]);
  expect(format.percent(0.5)).toBe("50 %");
  expect(format.count(1234567)).toBe("1 234 567");
  expect(format.times(3.914)).toBe("3.91×");
});

test("shorten cuts the middle and counts characters, not code units", () => {
  expect(format.shorten("conv1", 10)).toBe("conv1");
  expect(format.shorten("layer3.2.conv1/Conv_quantized", 12)).toBe("laye…antized");
  expect([...format.shorten("😀".repeat(30), 11)]).toHaveLength(11);
});
