import { expect, test } from "vitest";
import { random } from "../random.ts";
import { after, type Option, path } from "./mixed-choice.ts";

const option = (format: string, cost: number, damage: number): Option => ({ format, cost, damage });
const total = (options: readonly Option[], what: "cost" | "damage"): number =>
  options.reduce((sum, each) => sum + each[what], 0);

test("layers that bear it best go first, and a format that another beats is never taken", () => {
  const layers = [
    [option("float", 100, 0), option("int8", 25, 5), option("w4", 13, 50)],
    [option("float", 100, 0), option("int8", 25, 1), option("w4", 13, 2), option("slow", 60, 3)],
  ];
  const moves = path(layers);
  expect(moves.map(({ layer, option: { format } }) => `${layer} ${format}`)).toEqual([
    "1 int8",
    "0 int8",
    "1 w4",
    "0 w4",
  ]);
  expect(after(layers, moves, 3).map(({ format }) => format)).toEqual(["int8", "w4"]);
  expect(after(layers, moves, 0).map(({ format }) => format)).toEqual(["float", "float"]);
});

test("a format that even lessens the damage goes first of all; what costs more is left alone", () => {
  const layers = [[option("float", 10, 1), option("better", 5, 0), option("dear", 20, 0)]];
  expect(path(layers).map(({ option: { format } }) => format)).toEqual(["better"]);
});

test("every point of the path has the least damage of all choices at its price", () => {
  const draw = random(7);
  for (let round = 0; round < 20; round++) {
    const layers = Array.from({ length: 4 }, () => [
      option("float", 100, 0),
      ...["a", "b", "c"].map((name) => option(name, 10 + draw.int(80), draw.next() * 10)),
    ]);
    const moves = path(layers);
    let choices: Option[][] = [[]];
    for (const options of layers) choices = choices.flatMap((chosen) => options.map((each) => [...chosen, each]));
    for (let count = 0; count <= moves.length; count++) {
      const found = after(layers, moves, count);
      const cheapest = choices
        .filter((choice) => total(choice, "cost") <= total(found, "cost"))
        .reduce((least, choice) => Math.min(least, total(choice, "damage")), Number.POSITIVE_INFINITY);
      expect(total(found, "damage")).toBeCloseTo(cheapest, 9);
    }
  }
});
