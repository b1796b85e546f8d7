import type { Command } from "commander";
import { recipeJsonSchema } from "../../recipe/recipe.ts";

/** `pare schema`: the JSON Schema of recipes on stdout. */
export function define(command: Command): void {
  command
    .addHelpText(
      "after",
      "\nFor an editor: pare schema > recipe.schema.json, and in the recipe's first line\n# yaml-language-server: $schema=recipe.schema.json",
    )
    .action(() => {
      process.stdout.write(`${JSON.stringify(recipeJsonSchema(), undefined, 2)}\n`);
    });
}
