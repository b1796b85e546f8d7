export { renderHtml } from "./html.ts";
export { reportMarkdown } from "./markdown.ts";
export * from "./report.ts";
export { renderTerminal, type TerminalOptions } from "./terminal.ts";
