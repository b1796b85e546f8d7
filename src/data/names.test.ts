import sharp from "sharp";
import { expect, test } from "vitest";
import { folder, input, open } from "../../test/datasets.ts";
import { writeNpz } from "../formats/npy.ts";
import { float32 } from "../tensor/tensor.ts";

test("names of test and validation files win over the word data in them", async () => {
  const npz = (...x: number[]) => writeNpz(new Map([["x", float32([x.length, 1], x)]]));
  const path = folder("split-names", {
    "train_data.npz": npz(1),
    "data_test.npz": npz(2, 3),
    "val_data.npz": npz(4, 5, 6),
  });
  const data = await open(path, [input("x", ["N", 1])]);
  expect(data.splits.map((split) => [split, data.size(split)])).toEqual([
    ["train", 1],
    ["val", 3],
    ["test", 2],
  ]);
  const tables = folder("split-tables", { "data.csv": "a,y\n1,0\n", "data_test.csv": "a,y\n2,1\n3,0\n" });
  const table = await open(tables, [input("x", ["N", 1])]);
  expect([table.size("train"), table.size("test")]).toEqual([1, 2]);
  const twice = folder("split-twice", { "data.npz": npz(1), "train.npz": npz(2) });
  await expect(open(twice, [input("x", ["N", 1])])).rejects.toThrow("'data.npz' and 'train.npz' both name");
});

test("a row without a label is an error, not a class of its own", async () => {
  const table = folder("blank-table", { "t.csv": "a,y\n1,0\n2,\n3,10\n" });
  await expect(open(table, [input("x", ["N", 1])])).rejects.toThrow("column 'y' has no label");
  const image = await sharp({ create: { width: 2, height: 2, channels: 3, background: "red" } })
    .png()
    .toBuffer();
  const files = { "a.png": image, "b.png": image, "labels.csv": "file,label\na.png,3\nb.png,\n" };
  const images = open(folder("blank-images", files), [input("x", ["N", 3, 2, 2])]);
  await expect(images).rejects.toThrow("no label for 'b.png'");
});
