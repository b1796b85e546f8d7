import { expect, test } from "vitest";
import packageFile from "../package.json" with { type: "json" };
import { commands } from "../src/cli/commands.ts";
import { cliReference } from "../src/cli/reference.ts";
import { techniqueRows } from "../src/cli/techniques.ts";
import { techniques } from "../src/techniques/index.ts";
import { version } from "../src/version.ts";

test("docs/cli.md is current", async () => {
  await expect(await cliReference()).toMatchFileSnapshot("../docs/cli.md");
});

test("the rows of the command line are the techniques with their own summaries", async () => {
  expect(Object.keys(techniqueRows)).toEqual(Object.keys(techniques));
  for (const [name, { summary, load }] of Object.entries(techniqueRows)) {
    expect(await load()).toBe(techniques[name]);
    expect(summary).toBe(techniques[name]!.summary);
  }
});

test("no command has two flags of one name", async () => {
  // commander refuses a second flag of the same name when it is added
  for (const { load } of commands) expect(await load()).toHaveProperty("define");
  await expect(cliReference()).resolves.toContain("### compress");
});

test("the version is that of package.json", () => {
  expect(version).toBe(packageFile.version);
});
