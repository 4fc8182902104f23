import { assertEquals, assertStringIncludes } from "@std/assert";
import { drawHeatMap } from "../../lab/scenarios/punches/heat_map.ts";
import type { MatrixCell } from "../../lab/scenarios/punches/matrix.ts";

Deno.test("drawHeatMap() draws each pair once, below the diagonal", () => {
  const picture = drawHeatMap([cell(["random", "public"], 10), cell(["random", "random"], 10)], {
    rttMs: 50,
    runs: 10,
  });
  const tooltips = [...picture.matchAll(/<title>([^;]*);/g)].map(([, text]) => text);
  assertEquals(tooltips, [
    "symmetric, random x public host: 10 of 10 connected, 90 % expected",
    "symmetric, random x symmetric, random: 10 of 10 connected, 90 % expected",
  ]);
  assertStringIncludes(picture, "53 ms");
  assertStringIncludes(picture, "16 SYNs");
});

Deno.test("drawHeatMap() never shows 100 % for less than all", () => {
  const picture = drawHeatMap([cell(["random", "public"], 999, 1000)], { rttMs: 50, runs: 1000 });
  assertStringIncludes(picture, ">99 %</text>");
});

Deno.test("drawHeatMap() distinguishes a refusal from a failure", () => {
  const refused = { ...cell(["random", "random"], 0), refused: 10, connectMs: null };
  const failed = { ...cell(["random", "random"], 0), connectMs: null };
  const draw = (drawn: MatrixCell) =>
    drawHeatMap([drawn], { rttMs: 50, runs: 10 }).split("<title>")[1]!;
  assertStringIncludes(draw(refused), "impossible");
  assertStringIncludes(draw(failed).split("</g>")[0]!, ">0 %</text>");
});

function cell(kinds: MatrixCell["kinds"], connected: number, runs = 10): MatrixCell {
  const connectMs = { median: 53, p95: 60, max: 60 };
  return {
    kinds,
    runs,
    connected,
    refused: 0,
    inFirstRound: connected,
    connectMs,
    laterConnectMs: connectMs,
    totalMs: connectMs,
    syns: { median: 16, max: 16 },
    estimate: 0.9,
    methods: ["direct"],
    notes: [],
  };
}
