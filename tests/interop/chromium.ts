/**
 * A page in Chromium, without a window, by the DevTools protocol. The browser reaches nothing: its proxy is a port on which
 * nothing listens.
 *
 * @module
 */

import { delay } from "@std/async/delay";

/** A browser with one page. */
export class Chromium implements AsyncDisposable {
  /** By the request's ID. */
  readonly #requests = new Map<string, string>();
  readonly #child: Deno.ChildProcess;
  readonly #socket: WebSocket;
  readonly #folder: string;
  readonly #waiting = new Map<number, PromiseWithResolvers<Record<string, unknown>>>();
  readonly #events = new Map<string, () => void>();
  #lastId = 0;

  private constructor(child: Deno.ChildProcess, socket: WebSocket, folder: string) {
    this.#child = child;
    this.#socket = socket;
    this.#folder = folder;
    socket.onmessage = ({ data }) => this.#onMessage(JSON.parse(data));
  }

  /** The URLs that the page has asked for, except those that its content security policy has kept from being sent. */
  get requests(): string[] {
    return [...this.#requests.values()];
  }

  /** Starts it, with an empty page. */
  static async start(): Promise<Chromium> {
    const folder = await Deno.makeTempDir({ prefix: "punchline-chromium-" });
    const child = new Deno.Command("chromium", {
      args: [
        ...["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        ...["--no-first-run", "--disable-background-networking", "--disable-component-update"],
        ...["--disable-extensions", "--mute-audio", "--proxy-server=127.0.0.1:9"],
        ...["--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank"],
      ],
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      const port = await debuggingPort(folder);
      const pages = await (await fetch(`http://127.0.0.1:${port}/json/list`)).json();
      const { webSocketDebuggerUrl } = pages.find(({ type }: { type: string }) => type === "page");
      const socket = new WebSocket(webSocketDebuggerUrl);
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("Cannot reach Chromium's page"));
      });
      const browser = new Chromium(child, socket, folder);
      for (const domain of ["Page", "Network", "Runtime"]) await browser.send(`${domain}.enable`);
      return browser;
    } catch (error) {
      child.kill("SIGKILL");
      await child.status;
      await Deno.remove(folder, { recursive: true });
      throw error;
    }
  }

  /** Sends a command of the protocol; returns its result. */
  async send(
    method: string,
    params: Record<string, unknown> = {},
  ): Promise<Record<string, unknown>> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<Record<string, unknown>>();
    this.#waiting.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params }));
    return await answer.promise;
  }

  /** Opens a page as a reader of this colour scheme and this width would. */
  async open(url: string, scheme: "light" | "dark", width: number): Promise<void> {
    this.#requests.clear();
    const features = [{ name: "prefers-color-scheme", value: scheme }];
    await this.send("Emulation.setEmulatedMedia", { features });
    const size = { width, height: 800, deviceScaleFactor: 1, mobile: false };
    await this.send("Emulation.setDeviceMetricsOverride", size);
    const loaded = new Promise<void>((resolve) => this.#events.set("Page.loadEventFired", resolve));
    await this.send("Page.navigate", { url });
    await loaded;
  }

  /** The value of an expression in the page. */
  async value<T>(expression: string): Promise<T> {
    const { result } = await this.send("Runtime.evaluate", {
      ...{ expression, returnByValue: true, awaitPromise: true },
    });
    return (result as { value: T }).value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.onclose = resolve);
    this.#socket.close();
    this.#child.kill("SIGTERM");
    await this.#child.status;
    await closed;
    await Deno.remove(this.#folder, { recursive: true });
  }

  #onMessage(message: {
    id?: number;
    method?: string;
    params?: { requestId?: string; request?: { url: string }; blockedReason?: string };
    result?: Record<string, unknown>;
    error?: { message: string };
  }): void {
    const { id, method, params, result, error } = message;
    const { requestId = "", request, blockedReason } = params ?? {};
    if (method === "Network.requestWillBeSent") this.#requests.set(requestId, request!.url);
    if (method === "Network.loadingFailed" && blockedReason === "csp") {
      this.#requests.delete(requestId);
    }
    if (method !== undefined) this.#events.get(method)?.();
    if (id === undefined) return;
    const answer = this.#waiting.get(id)!;
    this.#waiting.delete(id);
    if (error === undefined) answer.resolve(result!);
    else answer.reject(new Error(error.message));
  }
}

/** The port that it writes down in its folder once it is ready. */
async function debuggingPort(folder: string): Promise<string> {
  for (let tries = 0; tries < 200; tries++) {
    try {
      const [port] = (await Deno.readTextFile(`${folder}/DevToolsActivePort`)).split("\n");
      if (port) return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    await delay(50);
  }
  throw new Error("Cannot start Chromium: it opens no port within 10 s");
}
