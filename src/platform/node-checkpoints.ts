import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fail, messageOf } from "../errors.ts";

/**
 * A folder of small files that are replaced whole: each is written under a temporary name, flushed and renamed.
 *
 * @throws PareError where the folder can't be made
 */
export async function folderStore(path: string): Promise<{
  readonly name: string;
  read(name: string): Promise<Uint8Array | undefined>;
  write(name: string, bytes: Uint8Array): Promise<void>;
}> {
  await mkdir(path, { recursive: true }).catch((error: unknown) =>
    fail(path, `can't be made (${messageOf(error)})`, "Choose another folder", error),
  );
  return {
    name: path,
    read: (name) =>
      readFile(join(path, name)).catch((error: NodeJS.ErrnoException) =>
        error.code === "ENOENT"
          ? undefined
          : fail(join(path, name), `can't be read (${messageOf(error)})`, undefined, error),
      ),
    async write(name, bytes) {
      // of a fixed name: what a kill leaves is overwritten, not kept beside the next
      const temporary = join(path, `.${name}.tmp`);
      try {
        const file = await open(temporary, "w");
        try {
          await file.writeFile(bytes);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(temporary, join(path, name));
      } catch (error) {
        await rm(temporary, { force: true }).catch(() => {});
        fail(join(path, name), `can't be written (${messageOf(error)})`, hintOf(error), error);
      }
    },
  };
}

function hintOf(error: unknown): string {
  const full = ["ENOSPC", "EDQUOT", "EFBIG"].includes((error as NodeJS.ErrnoException).code ?? "");
  return full
    ? "The disk is full: the version before is kept, make room and start again"
    : "The version before is kept";
}
