/**
 * The punch matrix as a picture.
 *
 * @module
 */

import type { MatrixCell } from "./matrix.ts";
import { NAT_KINDS, type NatKind, natKind, type NatKindName } from "./nat_kinds.ts";
import { percent } from "./figures.ts";
import { isRefused, successOf } from "./summary.ts";

/** What the picture says about the runs. */
export interface HeatMapOptions {
  readonly rttMs: number;
  /** How many runs of each pair. */
  readonly runs: number;
}

/** Draws the matrix as SVG: each pair once, below the diagonal, and the legend above it. */
export function drawHeatMap(cells: readonly MatrixCell[], options: HeatMapOptions): string {
  const kinds = [...new Set(cells.flatMap(({ kinds }) => kinds))];
  const order = (Object.keys(NAT_KINDS) as NatKindName[]).filter((name) => kinds.includes(name));
  const offsets = offsetsOf(order);
  const size = offsets.at(-1)! + CELL_WIDTH;
  const height = TOP + offsets.at(-1)! / CELL_WIDTH * CELL_HEIGHT + CELL_HEIGHT + BOTTOM;
  const width = LEFT + size + RIGHT;
  const place = (row: number, column: number): Place => ({
    x: LEFT + offsets[column]!,
    y: TOP + offsets[row]! / CELL_WIDTH * CELL_HEIGHT,
  });
  const drawn = cells.map((cell) => {
    const [a, b] = cell.kinds.map((name) => order.indexOf(name)).toSorted((a, b) => a - b);
    return drawCell(cell, place(b!, a!), options.rttMs);
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" ` +
    `width="${width}" height="${height}" role="img" aria-label="${escape(TITLE)}">`,
    `<defs><pattern id="hatch" width="7" height="7" patternUnits="userSpaceOnUse" ` +
    `patternTransform="rotate(45)"><rect width="7" height="7" fill="#eef0f3"/>` +
    `<path d="M0 0V7" stroke="#d5d9e0" stroke-width="3"/></pattern>`,
    `<linearGradient id="scale">${SCALE.map(stopOf).join("")}</linearGradient></defs>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<g font-family="${FONT}" fill="${INK}">`,
    text(MARGIN, 52, TITLE, `font-size="27" font-weight="700"`),
    text(MARGIN, 80, subtitle(options), `font-size="14.5" fill="${PALE_INK}"`),
    text(
      LEFT - 14,
      TOP - 14,
      "one side ↓",
      `font-size="12.5" fill="${PALE_INK}" text-anchor="end"`,
    ),
    ...drawRowNames(order, place),
    text(
      LEFT - 14,
      height - BOTTOM + 24,
      "the other side →",
      `font-size="12.5" fill="${PALE_INK}" text-anchor="end"`,
    ),
    ...drawColumnNames(order, place),
    ...drawn,
    drawLegend(width - RIGHT, cells),
    "</g></svg>",
    "",
  ].join("\n");
}

interface Place {
  readonly x: number;
  readonly y: number;
}

function subtitle({ rttMs, runs }: HeatMapOptions): string {
  return `TCP simultaneous open between real Linux kernels; ${rttMs} ms round trip, ${runs} runs ` +
    `of each pair, half of them with the roles exchanged`;
}

function drawCell(cell: MatrixCell, { x, y }: Place, rttMs: number): string {
  const box = `<rect width="${CELL_WIDTH - GAP}" height="${CELL_HEIGHT - GAP}" rx="5"`;
  const parts = isRefused(cell)
    ? [
      `${box} fill="url(#hatch)"/>`,
      line(34, "impossible", `font-size="13" fill="${PALE_INK}"`),
      line(51, "refused at once", `font-size="10.5" fill="${PALE_INK}"`),
    ]
    : [
      `${box} fill="${colourOf(successOf(cell))}"/>`,
      line(25, shareText(successOf(cell)), `font-size="17" font-weight="700"`),
      line(43, milliseconds(cell), `font-size="13.5"`),
      line(56, `${cell.syns.median.toFixed(0)} SYNs`, `font-size="10.5" fill-opacity=".72"`),
      drawTime((cell.connectMs?.median ?? 0) / rttMs),
    ];
  return `<g transform="translate(${x} ${y})"><title>${escape(tooltip(cell))}</title>${
    parts.join("")
  }</g>`;
}

/** A bar for the time, in round trips. */
function drawTime(roundTrips: number): string {
  const width = Math.min(1, roundTrips / FULL_BAR) * (CELL_WIDTH - GAP - 12);
  return `<rect x="6" y="${CELL_HEIGHT - GAP - 5}" width="${
    width.toFixed(1)
  }" height="2.5" rx="1.25" ` +
    `fill-opacity=".55"/>`;
}

function tooltip(cell: MatrixCell): string {
  const [a, b] = cell.kinds.map((name) => natKind(name).name);
  const how = cell.methods.join(", ") || cell.notes[0] || "";
  const expected = cell.estimate === null ? "" : `, ${shareText(cell.estimate)} expected`;
  return `${a} x ${b}: ${cell.connected} of ${cell.runs} connected${expected}; ${how}`;
}

function drawRowNames(kinds: readonly NatKindName[], place: PlaceOf): string[] {
  return kinds.map((name, row) => {
    const { y } = place(row, 0);
    const style = `font-size="14" text-anchor="end"`;
    return text(LEFT - 14, y + CELL_HEIGHT / 2 + 3, natKind(name).name, style);
  });
}

function drawColumnNames(kinds: readonly NatKindName[], place: PlaceOf): string[] {
  const { y } = place(kinds.length - 1, 0);
  return kinds.map((name, column) => {
    const x = place(0, column).x + CELL_WIDTH / 2 + 6;
    const at = `translate(${x} ${y + CELL_HEIGHT + 14}) rotate(-38)`;
    return `<g transform="${at}">${
      text(0, 0, natKind(name).name, `font-size="14" text-anchor="end"`)
    }</g>`;
  });
}

type PlaceOf = (row: number, column: number) => Place;

/** On the right, in the empty half of the picture. */
function drawLegend(right: number, cells: readonly MatrixCell[]): string {
  const x = right - LEGEND_WIDTH;
  const pale = `font-size="13" fill="${PALE_INK}"`;
  const [sampleX, noteX] = [0, CELL_WIDTH + 18];
  const refused = cells.filter(isRefused).length;
  const always = cells.filter((cell) => successOf(cell) === 1).length;
  return `<g transform="translate(${x} ${TOP + 8})">${
    [
      text(0, 0, "How to read it", `font-size="17" font-weight="700"`),
      text(0, 24, "Each cell pairs one side’s NAT (row) with the other’s (column).", pale),
      `<g transform="translate(${sampleX} 44)"><rect width="${CELL_WIDTH - GAP}" ` +
      `height="${CELL_HEIGHT - GAP}" rx="5" fill="${colourOf(1)}"/>`,
      line(25, "100 %", `font-size="17" font-weight="700"`),
      line(43, "53 ms", `font-size="13.5"`),
      line(56, "18 SYNs", `font-size="10.5" fill-opacity=".72"`),
      drawTime(1),
      "</g>",
      text(noteX, 122, `the bar is the time again, full at ${FULL_BAR} round trips`, pale),
      text(noteX, 68, "runs that connected", `font-size="13"`),
      text(
        noteX,
        87,
        "median, from the later side’s first SYN until both are connected",
        `font-size="13"`,
      ),
      text(noteX, 104, "all SYNs that both hosts sent, 16 of them to test their NATs", pale),
      `<g transform="translate(0 148)"><rect width="${CELL_WIDTH - GAP}" ` +
      `height="${CELL_HEIGHT - GAP}" rx="5" fill="url(#hatch)"/>`,
      line(34, "impossible", `font-size="13" fill="${PALE_INK}"`),
      line(51, "refused at once", `font-size="10.5" fill="${PALE_INK}"`),
      "</g>",
      text(noteX, 178, "neither side’s port can be predicted:", `font-size="13"`),
      text(noteX, 196, "both get an error at once, with the reason", pale),
      `<rect y="240" width="${SCALE_WIDTH}" height="14" rx="4" fill="url(#scale)"/>`,
      ...[0, 0.25, 0.5, 0.75, 1].map((share) =>
        text(share * SCALE_WIDTH, 272, shareText(share), `font-size="12" text-anchor="middle"`)
      ),
      text(SCALE_WIDTH + 34, 252, "share of runs that connected", pale),
      text(
        0,
        314,
        `${always} of the ${cells.length - refused} possible pairs always connected.`,
        `font-size="15" font-weight="700"`,
      ),
      text(0, 338, expectation(cells), pale),
    ].join("")
  }</g>`;
}

function expectation(cells: readonly MatrixCell[]): string {
  const planned = cells.filter((cell) => !isRefused(cell) && cell.estimate !== null);
  const mean = (valueOf: (cell: MatrixCell) => number) =>
    planned.reduce((sum, cell) => sum + valueOf(cell), 0) / planned.length;
  const [expected, found] = [mean(({ estimate }) => estimate!), mean(successOf)];
  return `Overall, the plans expected ${percent(expected)}; ${percent(found)} connected.`;
}

/** Columns and rows of one group are adjacent. */
function offsetsOf(kinds: readonly NatKindName[]): number[] {
  const offsets: number[] = [];
  let x = 0;
  for (const [index, name] of kinds.entries()) {
    const previous = kinds[index - 1];
    if (previous !== undefined && groupOf(natKind(name)) !== groupOf(natKind(previous))) {
      x += GROUP_GAP;
    }
    offsets.push(x);
    x += CELL_WIDTH;
  }
  return offsets;
}

function groupOf({ place, behavior }: NatKind): string {
  return place === "nat" ? behavior.mapping : "untranslated";
}

function milliseconds({ connectMs }: MatrixCell): string {
  return connectMs === null ? "–" : `${connectMs.median.toFixed(0)} ms`;
}

/** Rounds to 100 only if it is exactly 100 %. */
function shareText(share: number): string {
  return `${share < 1 ? Math.min(99, Math.round(share * 100)) : 100} %`;
}

function line(y: number, content: string, style: string): string {
  return text((CELL_WIDTH - GAP) / 2, y, content, `${style} text-anchor="middle"`);
}

function text(x: number, y: number, content: string, style: string): string {
  return `<text x="${x}" y="${y}" ${style}>${escape(content)}</text>`;
}

function stopOf({ at, colour }: (typeof SCALE)[number]): string {
  return `<stop offset="${at}" stop-color="${hex(colour)}"/>`;
}

function colourOf(share: number): string {
  const next = Math.max(1, SCALE.findIndex(({ at }) => at >= share));
  const [from, to] = [SCALE[next - 1]!, SCALE[next]!];
  const part = (share - from.at) / (to.at - from.at);
  return hex(from.colour.map((value, i) => value + (to.colour[i]! - value) * part));
}

function hex(colour: readonly number[]): string {
  return `#${colour.map((value) => Math.round(value).toString(16).padStart(2, "0")).join("")}`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

const TITLE = "Which pairs of NATs can be punched through, how fast, and at what cost";

/** Safe for red-green colour blindness: from orange through yellow to blue-green. */
const SCALE: readonly {
  readonly at: number;
  readonly colour: readonly [number, number, number];
}[] = [
  { at: 0, colour: [222, 110, 75] },
  { at: 0.5, colour: [244, 178, 102] },
  { at: 0.8, colour: [248, 222, 142] },
  { at: 0.95, colour: [190, 224, 186] },
  { at: 1, colour: [120, 200, 176] },
];

const FONT = "Inter, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif";
const INK = "#1d2733";
const PALE_INK = "#5f6b7a";

const CELL_WIDTH = 82;
const CELL_HEIGHT = 72;
const GAP = 4;
const GROUP_GAP = 12;
const MARGIN = 40;
const LEFT = 318;
const RIGHT = 40;
const TOP = 116;
const BOTTOM = 210;
const LEGEND_WIDTH = 560;
const SCALE_WIDTH = 300;

/** The longest bar, in round trips. */
const FULL_BAR = 10;
