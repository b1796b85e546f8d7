import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fail, messageOf } from "../errors.ts";

/**
 * Writes a text: whole or not at all.
 *
 * @throws PareError where it can't be written
 */
export function writeText(path: string, text: string): void {
  const temporary = join(dirname(path), `.pare-${process.pid}.text.tmp`);
  try {
    const file = openSync(temporary, "w");
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    fail(path, `can't be written (${messageOf(error)})`, "Check the folder", error);
  }
}
