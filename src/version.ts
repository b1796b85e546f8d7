/** The toolkit's version, as in package.json (a test compares them): recorded in reports and in cache keys. */
export const version = "0.1.0";
