import { expect, test } from "vitest";
import { parseTable } from "./csv.ts";

test.each([
  ["quotes, doubled quotes, breaks in quotes", 'a,b\n1,"x ""y"", z\nw"\n', ["a", "b"], [["1", 'x "y", z\nw']]],
  [
    "Windows line ends, byte order mark, no last line end",
    "\ufeffa;b\r\n1;2\r\n3;4",
    ["a", "b"],
    [
      ["1", "2"],
      ["3", "4"],
    ],
  ],
  [
    "no header: the first row has numbers",
    "1,2\n3,4\n",
    ["column 1", "column 2"],
    [
      ["1", "2"],
      ["3", "4"],
    ],
  ],
  [
    "text only, nothing repeats: a header",
    "text\tlabel\ngood\tyes\nbad\tno\n",
    ["text", "label"],
    [
      ["good", "yes"],
      ["bad", "no"],
    ],
  ],
  [
    "text only, a value repeats: no header",
    "good,yes\nfine,yes\n",
    ["column 1", "column 2"],
    [
      ["good", "yes"],
      ["fine", "yes"],
    ],
  ],
  [
    "empty cells, also at the end",
    "a,b,c\n1,,\n,2,3\n",
    ["a", "b", "c"],
    [
      ["1", "", ""],
      ["", "2", "3"],
    ],
  ],
])("parses: %s", (_, text, header, rows) => {
  expect(parseTable(text, "t")).toEqual({ header, rows });
});

test("a .tsv is cut at tabs whatever its first line holds", () => {
  expect(parseTable("no, well, yes\t1\nfine\t0\n", "t.tsv").rows[0]).toEqual(["no, well, yes", "1"]);
});

test.each([
  ["", "has no rows"],
  ["a,b\n1\n", "row 2 has 1 cells"],
  ['a,b\n1,"2\n', "a quote in row 2 does not end"],
])("refuses %j", (text, message) => {
  expect(() => parseTable(text, "t")).toThrow(message);
});
