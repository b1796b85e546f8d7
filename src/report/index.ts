export { type CompareOptions, compare } from "./compare.ts";
export { planReports, verdictReport } from "./compress.ts";
export { reportSections, type Section } from "./document.ts";
export { renderHtml } from "./html.ts";
export { inspectionSections } from "./inspection.ts";
export { renderMarkdown, reportMarkdown } from "./markdown.ts";
export * from "./report.ts";
export { renderTerminal, type TerminalOptions } from "./terminal.ts";
export { type TrainingFacts, trainingReport } from "./training.ts";
