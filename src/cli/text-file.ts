import { closeSync, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { dirname, extname, join, resolve } from "node:path";
import { fail, messageOf } from "../errors.ts";

/**
 * Refuses the path of a text to write before any work is done.
 *
 * @param endings what the name may end in
 * @throws PareError for another ending, or a folder that does not exist
 */
export function checkTextFile(path: string, what: string, endings: readonly string[]): void {
  if (!endings.includes(extname(path).toLowerCase())) {
    fail(path, `can't tell the ${what}'s format from this name`, `End it in ${endings.join(", ")}`);
  }
  const folder = dirname(resolve(path));
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    fail(path, `its folder ${folder} does not exist`, "Make it first");
  }
}

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
      writeSync(file, text);
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
