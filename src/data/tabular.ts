import { fail } from "../errors.ts";
import { float32, int64, sizeOf, type Tensor } from "../tensor/tensor.ts";
import { isNumber, parseTable, type Table } from "./csv.ts";
import type { Dataset } from "./dataset.ts";
import type { DataFile } from "./files.ts";
import { spread } from "./preprocess.ts";
import { bySplit, datasetOf, type Samples, sortSplits, splitOfName } from "./samples.ts";
import { type DataSource, type DatasetKind, filesNamed, sampleInput } from "./source.ts";

const tableName = /\.(csv|tsv)(\.gz|\.br)?$/i;

/**
 * Tables: numeric columns in file order are the features `[n, columns]`, one column is the label. Text labels are
 * classes in sorted order; other text columns are refused. The values are kept as float32.
 */
export const tabular: DatasetKind = {
  name: "table",
  summary: "a .csv or .tsv file, or a folder with train.csv, test.csv, ...; numeric columns and a label column",
  detect: (source) => source.entries.some(({ kind, name }) => kind === "file" && tableName.test(name)),
  async open(source) {
    const files = filesNamed(source, tableName);
    const named = files.filter((file) => splitOfName(file.name) !== undefined);
    const chosen = source.kind === "file" || files.length === 1 ? files : named;
    if (chosen.length === 0) {
      fail(source.path, `holds ${files.length} tables, none named train, val or test`, "Give the path of one of them");
    }
    const tables = new Map<string, Table>();
    const bySplits = chosen.length === 1 ? new Map([["all", chosen[0]!]]) : bySplit(source.path, chosen);
    for (const [split, file] of bySplits) {
      tables.set(split, await readTable(file));
    }
    return openTables(source, tables);
  },
};

async function readTable(file: DataFile): Promise<Table> {
  return parseTable(new TextDecoder().decode(await file.read(0, await file.size())), file.path);
}

function openTables(source: DataSource, tables: ReadonlyMap<string, Table>): Dataset {
  const { header } = tables.values().next().value!;
  const label = labelColumn(source, header);
  const features = header.flatMap((_, i) => (i === label ? [] : [i]));
  const cells = [...tables.values()].flatMap(({ rows }) => (label === undefined ? [] : rows.map((row) => row[label]!)));
  if (cells.some((cell) => cell.trim() === "")) {
    fail(source.path, `column '${header[label!]}' has no label in some row`, "Fill in or remove the rows without one");
  }
  const text = cells.some((cell) => !isNumber(cell));
  const classes = text ? [...new Set(cells)].sort() : undefined;
  const index = classes && new Map(classes.map((name, i) => [name, i]));
  const asClasses = text || areClasses(source, cells.map(Number));
  const splits = new Map<string, Samples>();
  for (const [split, table] of tables) {
    if (table.header.join() !== header.join()) fail(source.path, `split '${split}' has other columns than the first`);
    const x = featureColumns(source, table, features);
    const y = label === undefined ? undefined : table.rows.map((row) => index?.get(row[label]!) ?? Number(row[label]));
    splits.set(split, samplesOf(source, x, features.length, y, asClasses));
  }
  return datasetOf(source.path, sortSplits(splits), classes);
}

/** The label's column: the one asked for, a usual name, or the last one where the model takes one column fewer. */
function labelColumn({ options, path }: DataSource, header: readonly string[]): number | undefined {
  if (options.labels !== undefined) {
    const at = header.indexOf(options.labels);
    return at >= 0 ? at : fail(path, `has no column '${options.labels}'`, `It has ${header.join(", ")}`);
  }
  const type = sampleInput(options).type;
  const width = type?.kind === "tensor" ? type.shape?.at(-1) : undefined;
  if (width === header.length) return undefined;
  const usual = header.findIndex((name) => /^(label|class|target|y)$/i.test(name));
  return usual >= 0 ? usual : header.length - 1;
}

/** Whole numbers from 0 are classes where the model has more than one output a sample, or there are few of them. */
function areClasses({ options }: DataSource, values: readonly number[]): boolean {
  if (options.task) return options.task === "classification";
  if (values.some((value) => !Number.isInteger(value) || value < 0)) return false;
  const type = options.outputs?.[0]?.type;
  const width = type?.kind === "tensor" ? type.shape?.at(-1) : undefined;
  if (typeof width === "number" && width > 1) return true;
  return new Set(values).size <= 20;
}

function featureColumns({ path }: DataSource, { header, rows }: Table, features: readonly number[]): Float32Array {
  const out = new Float32Array(rows.length * features.length);
  for (const [r, row] of rows.entries()) {
    for (const [f, column] of features.entries()) {
      const cell = row[column]!;
      if (!isNumber(cell)) {
        fail(
          path,
          `column '${header[column]}' of row ${r + 1} is not a number: '${cell}'`,
          "Encode or remove the column",
        );
      }
      out[r * features.length + f] = Number(cell);
    }
  }
  return out;
}

function samplesOf(
  { options, path }: DataSource,
  x: Float32Array,
  width: number,
  y: readonly number[] | undefined,
  asClasses: boolean,
): Samples {
  const input = sampleInput(options);
  const shape = input.type?.kind === "tensor" ? (input.type.shape ?? []).slice(1) : [];
  const fixed = shape.every((dim) => typeof dim === "number") ? (shape as number[]) : undefined;
  const inner = fixed && fixed.length > 0 ? fixed : [width];
  if (sizeOf(inner) !== width) {
    fail(
      path,
      `has ${width} feature columns, but input '${input.name}' takes ${inner.join("x")}`,
      "Name the label column",
    );
  }
  const { scale = 1, mean = 0, std = 1 } = options.preprocess ?? {};
  const [means, stds] = [spread(mean, width, "mean"), spread(std, width, "std")];
  return {
    count: x.length / width,
    async read(indices) {
      const n = indices.length;
      const data = new Float32Array(n * width);
      for (const [i, at] of indices.entries()) {
        for (let f = 0; f < width; f++) data[i * width + f] = (x[at * width + f]! * scale - means[f]!) / stds[f]!;
      }
      const inputs = { [input.name]: float32([n, ...inner], data) };
      return {
        inputs,
        size: n,
        ...(y && {
          labels: labelsOf(
            indices.map((at) => y[at]!),
            asClasses,
          ),
        }),
      };
    },
  };
}

function labelsOf(values: readonly number[], asClasses: boolean): Tensor {
  return asClasses ? int64(values) : float32([values.length, 1], values);
}
