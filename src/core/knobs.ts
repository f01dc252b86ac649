/**
 * Knobs for whoever works on Hotrod: every environment variable it reads, one row each. Options for users are not here but in
 * `BuildOptions`: a knob never changes what a build means, only what can be seen of it. Where there is no environment (a browser),
 * all knobs have their defaults.
 */

export interface Knob {
  readonly default: string;
  readonly doc: string;
}

export const KNOBS = {
  HOTROD_WEIGHTS_URL: {
    default: '',
    doc: 'where published weights are downloaded from instead of torchvision’s server: the folder of a mirror',
  },
  HOTROD_CACHE: {
    default: 'on',
    doc: 'off: code compiled for this machine, and precisions that were searched for, are neither looked for in the user’s cache folder nor kept there',
  },
  DEBUG: {
    default: '0',
    doc: '1 stages and times; 2 kernels and tactics; 3 the graph after each pass; 4 emitted code; 5 loop IR after each rewrite; 6 runtime steps. Each level shows those below too, and errors come with their stack',
  },
  STOP_AFTER: {
    default: '',
    doc: 'name of a graph pass: the pipeline ends after it and the build goes on, for bisecting a wrong answer; or of a build stage (read, infer, passes, fuse, lower, plan, tune): its result is printed and the build stops',
  },
} as const satisfies Readonly<Record<string, Knob>>;
export type KnobName = keyof typeof KNOBS;

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment of the process; empty where there is none. */
function environment(): Environment {
  const { process } = globalThis as { readonly process?: { readonly env?: Environment } };
  return process?.env ?? {};
}

/** The text of a knob: from the environment, else its default. */
export const knob = (name: KnobName, env: Environment = environment()): string => env[name] ?? KNOBS[name].default;

/** Level of DEBUG; 0 where it is no number (other tools use the variable with names). */
export function debugLevel(env?: Environment): number {
  const level = Number(knob('DEBUG', env));
  return Number.isFinite(level) ? level : 0;
}
