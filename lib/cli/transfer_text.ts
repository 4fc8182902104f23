/**
 * Transfers in words.
 *
 * @module
 */

import { printable, type TransferProgress, type TransferResult } from "../transfer/mod.ts";

/** `1.5 MiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  const mib = bytes / KIB / KIB;
  if (mib < 0.1) return `${(bytes / KIB).toFixed(1)} KiB`;
  return mib < 10 * KIB ? `${mib.toFixed(1)} MiB` : `${(mib / KIB).toFixed(1)} GiB`;
}

/** `1:05`, or `2:00:00`. */
export function formatDuration(seconds: number): string {
  const whole = Math.round(seconds);
  const [hours, minutes, rest] = [
    Math.floor(whole / 3600),
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const two = (number: number) => `${number}`.padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** `3 files`. */
export function formatFiles(count: number): string {
  return `${count} ${count === 1 ? "file" : "files"}`;
}

/** One line about the whole. */
export function summaryLine(verb: "Sent" | "Received", result: TransferResult): string {
  const { files, bytes, resumedBytes, sentBytes, elapsedMs, breaks } = result;
  const rate = formatBytes(Math.round(sentBytes / Math.max(elapsedMs / 1000, 0.001)));
  return [
    `${verb} ${formatFiles(files)}, ${formatBytes(bytes)}`,
    ` in ${formatDuration(elapsedMs / 1000)} (${rate}/s)`,
    resumedBytes > 0 ? `, ${formatBytes(resumedBytes)} of it were there already` : "",
    breaks > 0 ? `, over ${breaks + 1} connections` : "",
  ].join("");
}

/**
 * A bar that fits: `[#####-----]  50 %  1.5/3.0 MiB  1.0 MiB/s  0:02  name`. What does not fit is left out, the name
 * first.
 *
 * @param rate bytes a second, or `undefined` while it is not known
 */
export function progressBar(
  progress: TransferProgress,
  rate: number | undefined,
  columns: number,
): string {
  const { bytes, totalBytes, file } = progress;
  const share = totalBytes === 0 ? 1 : Math.min(bytes / totalBytes, 1);
  const parts = [
    `${Math.floor(share * 100)} %`.padStart(5),
    `${formatBytes(bytes)} of ${formatBytes(totalBytes)}`,
    ...rate === undefined ? [] : [
      `${formatBytes(Math.round(rate))}/s`,
      ...rate > 0 ? [`${formatDuration((totalBytes - bytes) / rate)} left`] : [],
    ],
  ];
  const width = Math.max(columns - 1, 1); // the last column would wrap
  while (parts.length > 1 && parts.join("  ").length > width) parts.pop();
  let line = parts.join("  ");
  const barWidth = Math.min(MAX_BAR, width - line.length - 4);
  if (barWidth >= MIN_BAR) {
    const done = Math.round(share * barWidth);
    line = `[${"#".repeat(done)}${"-".repeat(barWidth - done)}] ${line}`;
  }
  const room = width - line.length - 2;
  return room >= MIN_NAME && file !== null ? `${line}  ${shorten(file, room)}` : line;
}

/** The end of a name, which tells more than its start. */
function shorten(name: string, room: number): string {
  const shown = [...printable(name)];
  // A character may take two columns; halving the room where one is not ASCII errs on the side of what fits.
  // deno-lint-ignore no-control-regex
  const fitting = /^[\u0000-\u007f]*$/.test(name) ? room : Math.floor(room / 2);
  return shown.length <= fitting ? shown.join("") : `…${shown.slice(1 - fitting).join("")}`;
}

const KIB = 1024;

/** Ours. */
const MAX_BAR = 30;
const MIN_BAR = 10;
const MIN_NAME = 12;
