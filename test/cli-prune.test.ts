import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { load } from "../src/platform/node.ts";
import type { Report } from "../src/report/report.ts";
import { build, type Finished, pare, removeBuild, start, workplace } from "./cli.ts";

const fixed = ["prune", "digits/model.onnx", "--data", "digits", "-o", "small.onnx", "--threads", "1"];
let folder = "";

beforeAll(build, 120_000);
afterAll(removeBuild);
beforeEach(() => {
  folder = workplace();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const prune = (...args: string[]): Promise<Finished> => pare([...fixed, ...args], folder);

describe("mistakes end with a message, status 1 and no file", () => {
  const cases: readonly (readonly [args: string[], message: string])[] = [
    [["--by", "chanels"], "Did you mean 'channels'?"],
    [["--target", "mac=0.5"], "target: unknown size 'mac'."],
    [["--target", "sparsity=0.5"], "cutting channels does not change sparsity. Cut weights too."],
    [["--prune-weights", "score=wanda"], "--prune-weights is for cutting weights. Give --by channels,weights."],
    [["--prune-channels", "importence=l1"], "prune-channels: unknown option 'importence'. Did you mean 'importance'?"],
    [["--prune-channels", "ratio=0.5"], "prune-channels: 'ratio' is what the rounds choose."],
    [["--prune-channels", "fpgm"], "'fpgm' is no option. Write options as name=value"],
    [["--prune-channels", "{"], "--prune-channels: is not JSON"],
    [["--max-drop", "5"], "It takes a share: 1% or 0.01."],
    [["--step", "0"], "--step 0 cuts nothing."],
    [["--include", "conv9"], "no node fits --include 'conv9'"],
    [["--epochs", "-1"], "option --epochs must be a number of at least 0"],
  ];
  test.each(cases)("%j", async (args, message) => {
    const { status, stdout, stderr } = await prune(...args);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect([status, stdout]).toEqual([1, ""]);
    expect(readdirSync(folder)).toEqual(["digits"]);
  });
});

describe("rounds", () => {
  test("reach a target, tell of each, and leave a model with its report alone", async () => {
    const { status, stdout, stderr } = await prune("--target", "macs=50%", "--step", "0.3", "--limit", "300", "--json");
    expect(status, stderr).toBe(0);
    const report = JSON.parse(stdout) as Report;
    const [before, after] = report.models;
    expect(after!.macs).toBeLessThanOrEqual(before!.macs / 2);
    expect(after!.macs).toBeGreaterThan(0.4 * before!.macs);
    expect(stderr).toMatch(/^original {2}.* MACs .*top-1/m);
    expect(stderr.match(/^round \d+ {2}channels .* kept$/gm)).toHaveLength(report.ledger.length);
    expect(report.ledger.at(-1)!.exhibits.map(({ kind }) => kind)).toContain("progress");
    expect(report.verdict).toMatchObject({ asked: "a model of at most 50 % of the MACs", met: true });
    expect(report.plans[0]!.outcome).toBe("chosen");
    expect(readdirSync(folder).sort()).toEqual(["digits", "small.onnx"]);
  }, 180_000);

  test("that were interrupted leave the best so far, and go on from there", async () => {
    const args = [...fixed, "--by", "weights", "--prune-weights", "ends=prune", "--max-drop", "50%", "--limit", "300"];
    const child = start(args, folder);
    let stderr = "";
    const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
    await new Promise<void>((resolve) => {
      child.stderr!.on("data", (chunk) => {
        stderr += chunk;
        if (stderr.includes("round 2")) resolve();
      });
      void ended.then(() => resolve());
    });
    child.kill("SIGINT");
    expect(await ended, stderr).toBe(130);
    expect(stderr).toMatch(/small\.onnx is the best so far, of round \d+, not confirmed/);
    expect((await load(join(folder, "small.onnx"))).nodes.length).toBeGreaterThan(0);
    const { status, stdout } = await pare([...args, "--json"], folder);
    expect(status).toBe(0);
    const { ledger } = JSON.parse(stdout) as Report;
    expect(ledger.slice(0, 2).map(({ resumed }) => resumed)).toEqual([true, true]);
    expect(existsSync(join(folder, "small.onnx.work"))).toBe(false);
  }, 300_000);
});
