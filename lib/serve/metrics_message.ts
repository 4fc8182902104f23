/**
 * The text format of Prometheus, version 0.0.4.
 *
 * @module
 */

/** One metric and its values. */
export interface MetricFamily {
  /** Such as `punchline_connections`; counters end in `_total`. */
  readonly name: string;
  readonly kind: "counter" | "gauge";
  /** What it counts, in a sentence without a period. */
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

/** One value. */
export interface MetricSample {
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The text of an answer to a scrape. */
export function encodeMetrics(families: readonly MetricFamily[]): string {
  return families.map(({ name, kind, help, samples }) => {
    const lines = samples.map(({ labels = {}, value }) =>
      `${name}${encodeLabels(labels)} ${value}`
    );
    return [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...lines, ""].join("\n");
  }).join("");
}

function encodeLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
