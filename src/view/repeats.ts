/** Repetition in a sequence: stretches in which the same pattern stands several times, one after the other. */

export interface Repeat {
  readonly start: number;
  readonly period: number;
  /** At least 2. */
  readonly times: number;
}

const SHORTEST_PERIOD = 3;
const LONGEST_PERIOD = 600;
/** Irregular sequences hold many small repeats by chance; nobody is helped by more blocks than this. */
const MOST_REPEATS = 64;

/**
 * Stretches that do not overlap, in order. The one that covers most is taken first, of equals the one with the shorter pattern; a
 * stretch counts from its first position, and what is left over at its end stays outside. O(length × longest period).
 */
export function findRepeats(sequence: readonly string[]): readonly Repeat[] {
  const words = new Map<string, number>();
  for (const word of sequence) if (!words.has(word)) words.set(word, words.size);
  const ids = sequence.map((word) => words.get(word) as number);
  const found: Repeat[] = [];
  const search = (from: number, to: number): void => {
    const best = bestRepeat(ids, from, to);
    if (best === undefined || found.length === MOST_REPEATS) return;
    found.push(best);
    search(from, best.start);
    search(best.start + best.period * best.times, to);
  };
  search(0, ids.length);
  return found.sort((a, b) => a.start - b.start);
}

function bestRepeat(ids: readonly number[], from: number, to: number): Repeat | undefined {
  let best: Repeat | undefined;
  const longest = Math.min(LONGEST_PERIOD, (to - from) >> 1);
  for (let period = SHORTEST_PERIOD; period <= longest; period++) {
    let run = 0;
    for (let i = from; i + period <= to; i++) {
      if (i + period < to && ids[i] === ids[i + period]) {
        run++;
        continue;
      }
      const times = Math.floor((run + period) / period);
      const start = i - run;
      if (times >= 2 && times * period > (best ? best.times * best.period : 0) && !isConstant(ids, start, period)) {
        best = { start, period, times };
      }
      run = 0;
    }
  }
  return best;
}

/** One operator again and again is a chain, not a block. */
function isConstant(ids: readonly number[], start: number, period: number): boolean {
  for (let i = start + 1; i < start + period; i++) if (ids[i] !== ids[start]) return false;
  return true;
}
