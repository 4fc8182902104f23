/**
 * The report of `doctor` as a web page of one file: no script, nothing to load, light or dark as the reader's system is.
 * Whatever others have named is escaped, and a content security policy forbids what slips through to do anything.
 *
 * @module
 */

import { hash } from "../base/crypto.ts";
import { CHECK_TITLES, EXPECTATION_WORDS, STATE_WORDS } from "./words.ts";
import type { DoctorReport, PairReport } from "./report_message.ts";

/**
 * The page.
 *
 * @param report one that {@linkcode redacted} has gone through
 * @param made what made it, and when
 */
export function reportPage(report: DoctorReport, made: string): string {
  const { verdict, findings, remedies, checks, peers, pair } = report;
  const digest = btoa(String.fromCharCode(...hash("sha256", new TextEncoder().encode(STYLE))));
  const policy =
    `default-src 'none'; style-src 'sha256-${digest}'; base-uri 'none'; form-action 'none'`;
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${escapeHtml(policy)}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="color-scheme" content="light dark">',
    '<meta name="referrer" content="no-referrer">',
    '<meta name="robots" content="noindex">',
    "<title>Network report</title>",
    `<style>${STYLE}</style>`,
    "</head>",
    "<body>",
    "<main>",
    "<header>",
    `<p class="state ${verdict.state}">${badge(verdict.state)}</p>`,
    `<h1>${escapeHtml(verdict.summary)}</h1>`,
    `<p class="made">${escapeHtml(made)}, in ${(report.elapsedMs / 1000).toFixed(1)} s</p>`,
    "</header>",
    ...pair === null ? [] : pairSection(pair),
    ...remedies.length === 0 ? [] : [
      "<section>",
      "<h2>What to do</h2>",
      "<ol>",
      ...remedies.map((remedy) => `<li>${sentence(remedy)}</li>`),
      "</ol>",
      "</section>",
    ],
    ...findings.every(({ summary }) => summary === verdict.summary) ? [] : [
      "<section>",
      "<h2>What was found</h2>",
      "<ul>",
      ...findings.map(({ summary }) => `<li>${escapeHtml(summary)}</li>`),
      "</ul>",
      "</section>",
    ],
    "<section>",
    "<h2>Checks</h2>",
    "<table>",
    '<thead><tr><th>Check</th><th>Result</th><th>What was seen</th><th class="ms">Time</th></tr></thead>',
    "<tbody>",
    ...checks.map(({ name, state, seen, remedy, elapsedMs }) =>
      [
        `<tr><th scope="row">${escapeHtml(CHECK_TITLES[name])}</th>`,
        `<td>${badge(state)}</td>`,
        `<td>${escapeHtml(seen)}${
          remedy === null || remedies.includes(remedy) ? "" : `<br><em>${sentence(remedy)}</em>`
        }</td>`,
        `<td class="ms">${Math.round(elapsedMs)} ms</td></tr>`,
      ].join("")
    ),
    "</tbody>",
    "</table>",
    "</section>",
    "<section>",
    "<h2>What works with whom</h2>",
    "<table>",
    "<thead><tr><th>A peer</th><th>Connects</th><th>How, or why not</th></tr></thead>",
    "<tbody>",
    ...peers.map(({ peer, expectation, reason }) =>
      `<tr><th scope="row">${escapeHtml(peer)}</th>` +
      `<td><span class="badge ${EXPECTATION_CLASS[expectation]}">${
        escapeHtml(EXPECTATION_WORDS[expectation])
      }</span></td>` +
      `<td>${escapeHtml(reason)}</td></tr>`
    ),
    "</tbody>",
    "</table>",
    "</section>",
    "</main>",
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

/** A sentence as HTML; commands stand in backticks. */
function sentence(text: string): string {
  return escapeHtml(text).replaceAll(/`([^`]*)`/g, "<code>$1</code>");
}

/** Text as HTML that shows it, in elements and in quoted attributes. */
export function escapeHtml(text: string): string {
  return text.replaceAll(
    /[&<>"']|[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu,
    (character) => ENTITIES[character] ?? "\ufffd",
  );
}

function pairSection(pair: PairReport): string[] {
  const { there, expected, tried, summary, remedies } = pair;
  return [
    '<section class="pair">',
    "<h2>With the other side</h2>",
    `<p><strong>${escapeHtml(summary)}</strong></p>`,
    "<ul>",
    ...there === null ? [] : [`<li>The other side&#39;s report: ${escapeHtml(there)}</li>`],
    ...expected === null ? [] : [
      `<li>Expected: ${escapeHtml(EXPECTATION_WORDS[expected.expectation])}, ${
        escapeHtml(expected.reason)
      }</li>`,
    ],
    ...tried === null ? [] : [
      `<li>Tried: ${escapeHtml(EXPECTATION_WORDS[tried.outcome])}, ${
        escapeHtml(tried.reason)
      }</li>`,
    ],
    "</ul>",
    ...remedies.length === 0 ? [] : [
      "<ol>",
      ...remedies.map((remedy) => `<li>${sentence(remedy)}</li>`),
      "</ol>",
    ],
    "</section>",
  ];
}

function badge(state: DoctorReport["verdict"]["state"]): string {
  return `<span class="badge ${state}">${escapeHtml(STATE_WORDS[state])}</span>`;
}

const ENTITIES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

const EXPECTATION_CLASS = { direct: "ok", relay: "warn", none: "fail" } as const;

/** Colours with a contrast of at least 4.5 in both schemes (WCAG 2.2, 1.4.3). */
const STYLE = `
:root { color-scheme: light dark; --back: #ffffff; --text: #1c1e21; --soft: #5b6168; --line: #d9dce0;
  --ok: #17692f; --warn: #8a5200; --fail: #b3261e; --unknown: #5b6168; --code: #f3f4f6; }
@media (prefers-color-scheme: dark) {
  :root { --back: #16181b; --text: #e6e8ea; --soft: #a3a9b0; --line: #34383d;
    --ok: #6fd08c; --warn: #f0b35a; --fail: #ff8a80; --unknown: #a3a9b0; --code: #212429; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .5rem 0; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p.state { margin: 0; }
.made { color: var(--soft); margin: 0; }
ol, ul { padding-left: 1.4rem; margin: .4rem 0; }
li { margin: .35rem 0; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem .5rem 0;
  border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
tbody th { font-weight: 600; min-width: 7rem; }
em { color: var(--soft); }
code { background: var(--code); border-radius: .25rem; padding: .1rem .3rem; }
.ms { text-align: right; white-space: nowrap; color: var(--soft); padding-right: 0; }
.badge { display: inline-block; min-width: 4.5rem; padding: 0 .55rem; border: 1px solid currentColor;
  border-radius: 999px; font-size: .85rem; font-weight: 600; text-align: center; white-space: nowrap; }
.ok { color: var(--ok); } .warn { color: var(--warn); }
.fail { color: var(--fail); } .unknown { color: var(--unknown); }
.pair { background: var(--code); border-radius: .6rem; padding: .1rem 1.2rem 1rem; margin-top: 1.5rem; }
.pair h2 { margin-top: 1rem; }
@media (max-width: 40rem) {
  thead { display: none; }
  tr, th, td { display: block; border: 0; padding: 0; }
  tr { border-bottom: 1px solid var(--line); padding: .7rem 0; }
  .ms { text-align: left; }
}
@media print { .pair { border: 1px solid var(--line); } }
`;
