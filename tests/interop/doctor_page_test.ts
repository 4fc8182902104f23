// The page of `doctor --html` in a real browser: readable in the light and in the dark, on wide and narrow windows, without
// any request beyond itself, and with scripts forbidden. Chromium is large, so CI installs none: the test is skipped there.

import { assert, assertEquals, assertMatch } from "@std/assert";
import { reportPage } from "../../lib/doctor/page.ts";
import { doctorReport } from "../doctor/doctor_reports.ts";
import { Chromium } from "./chromium.ts";
import { outputOf, testUnless } from "./tool_test_case.ts";

testUnless(
  await whyNoChromium(),
  "the page of doctor in Chromium: light and dark, no request, no script",
  async (test) => {
    const file = await Deno.makeTempFile({ suffix: ".html" });
    const nasty =
      `</p><script>globalThis.ran = true</script><img src="http://192.0.2.1/x" onerror="ran=1">`;
    const report = doctorReport();
    const [first, ...others] = report.checks;
    await Deno.writeTextFile(
      file,
      reportPage({
        ...report,
        checks: [{ ...first!, seen: nasty }, ...others],
        remedies: [...report.remedies, "Run `punchline serve`, and look at " + "x".repeat(300)],
      }, "punchline, 2026-08-01 14:05 UTC"),
    );
    try {
      await using browser = await Chromium.start();
      for (const scheme of ["light", "dark"] as const) {
        for (const width of [1200, 360]) {
          await test.step(`${scheme}, ${width} pixels wide`, async () => {
            await browser.open(`file://${file}`, scheme, width);
            assertEquals(browser.requests, [`file://${file}`]);
            const contrasts = await browser.value<[text: string, contrast: number][]>(CONTRASTS);
            assert(contrasts.length > 30, `${contrasts.length} texts`);
            for (const [text, contrast] of contrasts) {
              assert(contrast >= 4.5, `${text}: contrast ${contrast.toFixed(2)}`);
            }
            const [back, overflow] = await browser.value<[string, number]>(BACK_AND_OVERFLOW);
            assertEquals(back, scheme === "light" ? "rgb(255, 255, 255)" : "rgb(22, 24, 27)");
            assert(overflow <= 0, `${overflow} pixels beyond the window`);
            assertEquals(await browser.value("typeof globalThis.ran"), "undefined");
          });
        }
      }
      await test.step("a script that is put into it does not run, and an image is not asked for", async () => {
        const html = `<script>globalThis.ran = 1</script><img src="http://192.0.2.1/y">`;
        await browser.value(`
          document.body.append(document.createRange().createContextualFragment(${
          JSON.stringify(html)
        }))`);
        await browser.value("new Promise((resolve) => setTimeout(resolve, 200))");
        assertEquals(await browser.value("typeof globalThis.ran"), "undefined");
        assertEquals(browser.requests.filter((url) => !url.startsWith("file:")), []);
        assertMatch(await browser.value<string>("document.title"), /Network report/);
      });
    } finally {
      await Deno.remove(file);
    }
  },
  { failsInCi: false },
);

/** `undefined` where there is one that starts. */
async function whyNoChromium(): Promise<string | undefined> {
  try {
    const version = await outputOf("chromium", ["--version"]);
    return /^Chromium \d/m.test(version) ? undefined : `chromium answers ${version.trim()}`;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return "chromium is not installed (Debian package chromium)";
  }
}

/** Each text of the page, and its contrast with what is behind it (WCAG 2.2, relative luminance). */
const CONTRASTS = `(() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = rgb(text).map((each) => {
      const part = each / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backOf = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const { backgroundColor } = getComputedStyle(at);
      if (rgb(backgroundColor)[3] !== 0) return backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const { parentElement, textContent } = texts.currentNode;
    if (textContent.trim() === "" || parentElement.offsetParent === null) continue;
    const [a, b] = [light(getComputedStyle(parentElement).color), light(backOf(parentElement))];
    found.push([textContent.slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]);
  }
  return found;
})()`;

const BACK_AND_OVERFLOW = `[
  getComputedStyle(document.body).backgroundColor,
  document.documentElement.scrollWidth - document.documentElement.clientWidth,
]`;
