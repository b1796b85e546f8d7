import { fail } from "../errors.ts";
import { int64 } from "../tensor/tensor.ts";
import { parseTable } from "./csv.ts";
import { type FittedPicture, fitPicture, fittedToTensor } from "./image.ts";
import type { ImagePlan } from "./preprocess.ts";
import { bySplit, datasetOf, type Samples, sortSplits, splitOfName } from "./samples.ts";
import { type DataSource, type DatasetKind, imagePlan } from "./source.ts";

const imageName = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif)$/i;
const tableName = /\.(csv|tsv)$/i;

/** Photographs decoded at one time: each takes tens of megabytes until it is in size. */
const decodedTogether = 4;

interface Labelled {
  readonly path: string;
  readonly label?: number;
}

/**
 * Images in folders: one sub-folder a class (labels in the order of the sorted names), or images beside a table whose
 * first column of file names names them and whose label column gives their class. Sub-folders named train, val or
 * test that hold such folders are splits. Images without either are unlabelled.
 */
export const imageFolder: DatasetKind = {
  name: "image-folder",
  summary:
    "a folder of images: one sub-folder a class, or images with a labels .csv; train/, val/ and test/ are splits",
  detect: (source) => source.kind === "folder" && holdsImages(source, source.path, 2),
  async open(source) {
    const plan = imagePlan(source);
    const listing = await source.files.list(source.path);
    const folders = listing.filter(({ kind }) => kind === "folder");
    const splitFolders = folders.filter(({ name }) => splitOfName(name) !== undefined);
    if (splitFolders.length === 0 || splitFolders.length < folders.length) {
      const { images, classes } = await readFolder(source, source.path);
      return datasetOf(source.path, new Map([["all", samplesOf(source, images, plan)]]), classes);
    }
    const splits = new Map<string, Samples>();
    let shared: readonly string[] | undefined;
    for (const [split, { name }] of bySplit(source.path, splitFolders)) {
      const { images, classes } = await readFolder(source, `${source.path}/${name}`);
      if (shared && classes && classes.join() !== shared.join()) {
        fail(
          source.path,
          `'${name}' has other classes than '${splitFolders[0]!.name}'`,
          "Every split needs each class",
        );
      }
      shared ??= classes;
      splits.set(split, samplesOf(source, images, plan));
    }
    return datasetOf(source.path, sortSplits(splits), shared);
  },
};

async function holdsImages(source: DataSource, folder: string, depth: number): Promise<boolean> {
  const entries = await source.files.list(folder);
  if (entries.some(({ kind, name }) => kind === "file" && imageName.test(name))) return true;
  if (depth === 0) return false;
  for (const { kind, name } of entries) {
    if (kind === "folder" && (await holdsImages(source, `${folder}/${name}`, depth - 1))) return true;
  }
  return false;
}

async function readFolder(
  source: DataSource,
  folder: string,
): Promise<{ images: Labelled[]; classes?: readonly string[] }> {
  const entries = await source.files.list(folder);
  const here = entries.filter(({ kind, name }) => kind === "file" && imageName.test(name));
  if (here.length > 0) {
    for (const { name } of entries.filter(({ kind, name }) => kind === "file" && tableName.test(name))) {
      const labelled = await readLabels(source, folder, name, new Set(here.map((image) => image.name)));
      if (labelled) return labelled;
    }
    return { images: here.map(({ name }) => ({ path: `${folder}/${name}` })) };
  }
  const classes: string[] = [];
  const images: Labelled[] = [];
  for (const { name } of entries.filter(({ kind }) => kind === "folder")) {
    const members = (await source.files.list(`${folder}/${name}`)).filter((file) => imageName.test(file.name));
    if (members.length === 0) continue;
    for (const member of members) images.push({ path: `${folder}/${name}/${member.name}`, label: classes.length });
    classes.push(name);
  }
  return { images, classes };
}

/** The table as labels of the images, if a column of it names them; rows of missing files are an error. */
async function readLabels(
  source: DataSource,
  folder: string,
  table: string,
  names: ReadonlySet<string>,
): Promise<{ images: Labelled[]; classes?: readonly string[] } | undefined> {
  const path = `${folder}/${table}`;
  const text = new TextDecoder().decode(await source.files.read(path));
  const { header, rows } = parseTable(text, path);
  const file = (rows[0] ?? []).findIndex((cell) => names.has(cell));
  if (file < 0) return undefined;
  const label = labelColumn(header, file, source.options.labels, path);
  const missing = rows.find((row) => !names.has(row[file]!));
  if (missing) fail(path, `names '${missing[file]}', which is not in the folder`, "Remove the row or add the image");
  const cells = rows.map((row) => row[label] ?? "");
  const blank = cells.findIndex((cell) => cell.trim() === "");
  if (blank >= 0) fail(path, `has no label for '${rows[blank]![file]}'`, "Fill it in or remove the row");
  const paths = rows.map((row) => `${folder}/${row[file]}`);
  if (cells.every((cell) => /^\d+$/.test(cell))) {
    return { images: paths.map((image, i) => ({ path: image, label: Number(cells[i]) })) };
  }
  const classes = [...new Set(cells)].sort();
  return { images: paths.map((image, i) => ({ path: image, label: classes.indexOf(cells[i]!) })), classes };
}

function labelColumn(header: readonly string[], file: number, wanted: string | undefined, path: string): number {
  if (wanted !== undefined) {
    const at = header.indexOf(wanted);
    return at >= 0 ? at : fail(path, `has no column '${wanted}'`, `It has ${header.join(", ")}`);
  }
  const usual = header.findIndex(
    (name, i) => i !== file && /^(label|class|class_?(index|id)|index|target|y)$/i.test(name),
  );
  return usual >= 0 ? usual : file === 0 ? 1 : 0;
}

function samplesOf(source: DataSource, images: readonly Labelled[], plan: ImagePlan): Samples {
  return {
    count: images.length,
    async read(indices) {
      const chosen = indices.map((i) => images[i]!);
      const fitted: FittedPicture[] = [];
      for (let from = 0; from < chosen.length; from += decodedTogether) {
        const group = chosen.slice(from, from + decodedTogether).map(async ({ path }) => {
          return fitPicture(await source.files.decodeImage(await source.files.read(path), path), plan);
        });
        fitted.push(...(await Promise.all(group)));
      }
      const inputs = { [plan.input]: fittedToTensor(fitted, plan, (i) => chosen[i]!.path) };
      const labels = chosen.flatMap(({ label }) => (label === undefined ? [] : [label]));
      return { inputs, size: indices.length, ...(labels.length === chosen.length && { labels: int64(labels) }) };
    },
  };
}
