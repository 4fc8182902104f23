/** Carries messages that take their time. Those still under way when it is disposed are lost, and leave no timer. */
export class SignalPost implements Disposable {
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();

  /** Calls `deliver` after so many milliseconds. */
  carry(deliver: () => void, afterMs: number): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      deliver();
    }, afterMs);
    this.#timers.add(timer);
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
