import { describe, expect, test } from "vitest";
import { random } from "../src/random.ts";
import { mutate, seedModels, survive } from "./mutate.ts";

describe("damaged and hostile files", () => {
  test("the undamaged ones are valid", () => {
    expect(seedModels().map((bytes) => survive(bytes))).toEqual(["valid", "valid"]);
  });

  test("1,000 mutations end in an error of ours or a model that survives", { timeout: 120_000 }, () => {
    const seeds = seedModels();
    const generator = random(1);
    const counts = { refused: 0, invalid: 0, valid: 0 };
    for (let i = 0; i < 1000; i++) {
      const once = mutate(seeds[i % seeds.length]!, seeds, generator);
      const bytes = generator.int(3) === 0 && once.length > 0 ? mutate(once, seeds, generator) : once;
      const began = performance.now();
      counts[survive(bytes)] += 1;
      expect(performance.now() - began).toBeLessThan(10_000);
    }
    expect(counts.refused).toBeGreaterThan(300);
    expect(counts.invalid).toBeGreaterThan(40);
    expect(counts.valid).toBeGreaterThan(40);
  });
});
