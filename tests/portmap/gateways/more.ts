import type { GatewayScenario } from "./scenario.ts";
export const MORE: readonly GatewayScenario[] = [];
