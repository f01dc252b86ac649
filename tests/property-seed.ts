/**
 * Where property tests start: the same examples at every run, so that the suite judges the change at hand and not the day. FUZZ_SEED
 * sets another start; `npm run test:random` takes the time.
 */
import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env.FUZZ_SEED ?? 20261125) });
