import { describe, expect, test } from "vitest";
import { runtime } from "../../src/platform/node.ts";
import { inChromium, testBrowser } from "./page.ts";
import train, { type Training, type TrainingJob } from "./pages/train.ts";

const inPage = (job: TrainingJob): Promise<Training> => inChromium<TrainingJob, Training>("train", job);

describe.runIf(testBrowser)("training in a browser", () => {
  test("one step gives the weights that Node gives on WASM", async () => {
    const job: TrainingJob = { pictures: 32, batch: 32, epochs: 1 };
    const here = await train(await runtime({ provider: "wasm", threads: 2 }), job);
    const there = await inPage(job);
    expect(there.losses).toEqual(here.losses);
    expect(there.model).toEqual(here.model);
  }, 120_000);

  test("the digits model learns in the page", async () => {
    const { losses, accuracies } = await inPage({ pictures: 300, batch: 20, epochs: 2 });
    expect(losses).toHaveLength(2);
    expect(losses[1]).toBeLessThan(losses[0]! / 2);
    // one of ten by chance
    expect(accuracies[1]).toBeGreaterThan(0.7);
  }, 120_000);
});
