export { type Couplings, couplings, type Group, type Place } from "./couplings.ts";
export { type Cuts, cutUnits } from "./cut.ts";
export { maskUnits } from "./cut-mask.ts";
