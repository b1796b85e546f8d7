import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { didYouMean, fail, messageOf } from "../errors.ts";
import { presets } from "../recipe/presets.ts";
import { parseRecipe, type Recipe, readRecipe } from "../recipe/recipe.ts";

/**
 * The recipe of a file (YAML, JSON, or a module with a default export), or the preset of that name.
 *
 * @throws PareError where there is neither, or the recipe is wrong
 */
export async function openRecipe(path: string): Promise<Recipe> {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) {
    const preset = Object.hasOwn(presets, path) ? presets[path] : undefined;
    if (preset) return { name: path, ...parseRecipe(preset, `preset ${path}`) };
    const names = Object.keys(presets);
    return fail(
      path,
      "there is no such recipe file, nor a preset of that name",
      didYouMean(path, names) || `Presets: ${names.join(", ")}`,
    );
  }
  if (!/\.[cm]?[jt]s$/.test(path)) return readRecipe(textOf(path), path);
  let module: { default?: unknown };
  try {
    module = (await import(pathToFileURL(resolve(path)).href)) as { default?: unknown };
  } catch (error) {
    return fail(path, `can't be imported (${messageOf(error)})`, "Check that Node runs it", error);
  }
  if (module.default === undefined)
    fail(path, "has no default export", "Export the recipe: export default { steps: [...] }");
  return parseRecipe(module.default, path);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    return fail(path, `can't be read (${messageOf(error)})`, undefined, error);
  }
}
