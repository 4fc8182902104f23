import { assertEquals } from "@std/assert";
import {
  type EndSignal,
  initialInterruptionState,
  type InterruptionAction,
  stepInterruption,
} from "../../lib/cli/interruption_engine.ts";

const TABLE: readonly {
  readonly name: string;
  readonly hasTerminal: boolean;
  readonly signals: readonly (readonly [EndSignal, number, InterruptionAction])[];
}[] = [
  {
    name: "the first signal interrupts, the second exits",
    hasTerminal: false,
    signals: [["SIGTERM", 0, "interrupt"], ["SIGTERM", 1, "exit"]],
  },
  {
    name: "a hang-up without a terminal changes nothing, before and after other signals",
    hasTerminal: false,
    signals: [["SIGHUP", 0, "ignore"], ["SIGINT", 1, "interrupt"], ["SIGHUP", 2, "ignore"]],
  },
  {
    name: "a hang-up that the shell and the kernel both send is one",
    hasTerminal: true,
    signals: [["SIGHUP", 0, "interrupt"], ["SIGHUP", 20, "ignore"], ["SIGHUP", 600, "exit"]],
  },
  {
    name: "another signal right after a hang-up exits",
    hasTerminal: true,
    signals: [["SIGHUP", 0, "interrupt"], ["SIGTERM", 20, "exit"]],
  },
];

for (const { name, hasTerminal, signals } of TABLE) {
  Deno.test(`stepInterruption(): ${name}`, () => {
    let state = initialInterruptionState(hasTerminal);
    for (const [signal, atMs, expected] of signals) {
      const step = stepInterruption(state, signal, atMs);
      assertEquals(step.action, expected);
      state = step.state;
    }
  });
}
