import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import {
  copyable,
  cut,
  cutStart,
  layoutColumns,
  table,
  textWidth,
  uncopyable,
  wrap,
} from "../../lib/cli/layout.ts";

Deno.test("textWidth() counts columns, not characters", () => {
  for (
    const [text, width] of [
      ["", 0],
      ["ticket", 6],
      ["─▶", 2],
      ["日本語", 6],
      ["e\u0301", 1], // a combining accent
      ["\u200bx", 1], // a zero-width space
      ["😀", 2],
      ["한글", 4],
      ["\u001b[32mok\u001b[0m", 2], // a colour
    ] as const
  ) assertEquals(textWidth(text), width, JSON.stringify(text));
});

Deno.test("wrap() keeps the indentation, and the spaces inside a line", () => {
  assertEquals(wrap("  ports   preserved for now", { columns: 20 }), [
    "  ports   preserved",
    "    for now",
  ]);
});

Deno.test("wrap() gives a long word a line of its own, and never breaks it", () => {
  const ticket = `punchline:${"x".repeat(90)}`;
  assertEquals(wrap(`Give this to a friend: ${ticket} now`, { columns: 40 }), [
    "Give this to a friend:",
    `  ${ticket}`,
    "  now",
  ]);
});

Deno.test("wrap() leaves a command together", () => {
  const command = copyable("punchline recv 7-quartz-lantern-otter");
  assertEquals(wrap(`On the other machine: ${command}`, { columns: 40 }).map(uncopyable), [
    "On the other machine:",
    "  punchline recv 7-quartz-lantern-otter",
  ]);
});

Deno.test("wrap() keeps every word in order, and fits unless a word does not", () => {
  const word = fc.stringMatching(/^[a-z日]{1,60}$/);
  fc.assert(
    fc.property(fc.array(word), fc.integer({ min: 40, max: 200 }), (words, columns) => {
      const lines = wrap(words.join(" "), { columns });
      assertEquals(lines.join(" ").split(" ").filter((each) => each !== ""), words);
      for (const line of lines) {
        assert(textWidth(line) <= columns || !line.trim().includes(" "), line);
      }
    }),
  );
});

Deno.test("table() aligns the cells, and wraps the last one", () => {
  const rows = [
    ["--key", "the file with this peer's secret key, created if missing"],
    ["--tcp", "over TCP"],
  ];
  assertEquals(table(rows, { columns: 40 }), [
    "  --key  the file with this peer's",
    "           secret key, created if",
    "           missing",
    "  --tcp  over TCP",
  ]);
});

Deno.test("table() puts the cells below each other where the last one would be too narrow", () => {
  const rows = [["--max-connections-per-source", "accept this many from one address"]];
  assertEquals(table(rows, { columns: 40 }), [
    "  --max-connections-per-source",
    "      accept this many from one address",
  ]);
});

Deno.test("table() aligns wide characters", () => {
  assertEquals(table([["日本", "x"], ["ab", "y"]], { columns: 80 }), ["  日本  x", "  ab    y"]);
});

Deno.test("table() fits every width from 40 on if its words do", () => {
  const cell = fc.array(fc.stringMatching(/^[a-z日]{0,15}$/), { maxLength: 12 })
    .map((words) => words.filter((word) => word !== "").join(" "));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.stringMatching(/^[a-z]{1,20}$/), cell), { minLength: 1 }),
      fc.integer({ min: 40, max: 200 }),
      (rows, columns) => {
        for (const line of table(rows, { columns })) assert(textWidth(line) <= columns, line);
      },
    ),
  );
});

Deno.test("cut() and cutStart() fit, and say that something is missing", () => {
  assertEquals(cut("searching", 9), "searching");
  assertEquals(cut("searching", 5), "sear…");
  assertEquals(cutStart("photos/cat.jpg", 8), "…cat.jpg");
  assertEquals(cut("日本語", 4), "日…");
  assertEquals(cut("x", 0), "");
  fc.assert(
    fc.property(fc.string({ unit: "grapheme" }), fc.nat(100), (text, columns) => {
      assert(textWidth(cut(text, columns)) <= columns);
      assert(textWidth(cutStart(text, columns)) <= columns);
    }),
  );
});

Deno.test("layoutColumns() is from 40 to 200", () => {
  assertEquals([1, 40, 80, 200, 999].map(layoutColumns), [40, 40, 80, 200, 200]);
});
