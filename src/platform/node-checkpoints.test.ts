import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { folderStore } from "./node-checkpoints.ts";

const folder = mkdtempSync(join(tmpdir(), "pare-checkpoints-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a version that can't be written leaves the one before, and says so", async () => {
  const store = await folderStore(join(folder, "work"));
  expect(await store.read("last")).toBeUndefined();
  await store.write("last", Uint8Array.of(1, 2));
  await store.write("last", Uint8Array.of(3));
  expect(await store.read("last")).toEqual(Buffer.of(3));
  expect(readdirSync(store.name)).toEqual(["last"]);
  // a folder where the new bytes would go
  mkdirSync(join(store.name, ".last.tmp"));
  await expect(store.write("last", Uint8Array.of(4))).rejects.toThrow(
    /last: can't be written .*The version before is kept/,
  );
  expect(await store.read("last")).toEqual(Buffer.of(3));
});
