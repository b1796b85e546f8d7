import { afterAll } from "vitest";
import { chromiumExists, chromiumHint, closeChromium } from "./chromium.ts";

export { inChromium, launch } from "./chromium.ts";

/** Whether browser tests are to run: always in CI, where a missing Chromium must be an error; elsewhere if there is one. */
export const testBrowser = Boolean(process.env.CI) || chromiumExists;
if (!testBrowser) console.warn(`The browser tests are left out: ${chromiumHint}.`);

afterAll(closeChromium);
