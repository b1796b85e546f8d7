import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { load } from "../src/platform/node.ts";
import { build, pare, removeBuild, workplace } from "./cli.ts";

let folder = "";
beforeAll(() => {
  build();
  folder = workplace();
});
afterAll(removeBuild);

const small = ["--epochs", "1", "--samples", "512", "--batch", "64", "--quiet", "--json"];

test("finetune trains a model further, logs every epoch, and continues nothing that is finished", async () => {
  const args = [
    "finetune",
    "digits/model.onnx",
    "--data",
    "digits",
    "-o",
    "tuned.onnx",
    "--work",
    "run",
    "--log",
    "log.jsonl",
    ...small,
  ];
  const first = await pare(args, folder);
  expect(first.stderr).toBe("");
  const result = JSON.parse(first.stdout) as { epochs: { loss: number }[] };
  expect(result.epochs).toHaveLength(1);
  expect(result.epochs[0]!.loss).toBeLessThan(3);
  expect(readFileSync(join(folder, "log.jsonl"), "utf8").trim().split("\n")).toHaveLength(1);
  const again = await pare(args, folder);
  expect(JSON.parse(again.stdout)).toEqual(result);
  const [before, after] = await Promise.all(
    ["digits/model.onnx", "tuned.onnx"].map((name) => load(join(folder, name))),
  );
  expect([...after!.weights.keys()]).toEqual([...before!.weights.keys()]);
});

test("train makes a network from nothing, and refuses what the architecture does not know", async () => {
  const args = [
    "train",
    "--arch",
    "lenet-300-100",
    "--input-channels",
    "1",
    "--size",
    "28",
    "--data",
    "digits",
    "-o",
    "new.onnx",
    ...small,
  ];
  const { status, stdout } = await pare(args, folder);
  expect(status).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ output: "new.onnx" });
  expect((await load(join(folder, "new.onnx"))).name).toBe("lenet-300-100");
  const wrong = await pare([...args, "--heads", "3"], folder);
  expect(wrong.status).toBe(1);
  expect(wrong.stderr).toMatch(/heads/);
});

test("an unknown architecture, a teacher that does not fit and missing labels are told", async () => {
  const unknown = await pare(["train", "--arch", "resnet21", "--data", "digits", "-o", "x.onnx"], folder);
  expect(unknown.status).toBe(1);
  expect(unknown.stderr).toMatch(/resnet20/);
  const noTeacher = await pare(
    ["finetune", "digits/model.onnx", "--teacher", "none.onnx", "--data", "digits", "-o", "x.onnx"],
    folder,
  );
  expect(noTeacher.status).toBe(1);
  expect(noTeacher.stderr).toMatch(/none\.onnx/);
});
