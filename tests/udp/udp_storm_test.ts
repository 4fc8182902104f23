import { udpStorm } from "./udp_storm.ts";

// `deno task prove udp-stream --seed 1 --runs 10000` runs as many as one likes.
Deno.test("streams arrive whole through loss, reordering and duplication", async () => {
  for (let seed = 1; seed <= 30; seed++) await udpStorm(seed);
});
