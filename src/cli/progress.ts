/**
 * Progress of long work on stderr: a bar that is redrawn where the terminal allows it, else one plain line a stage.
 */
import type { BuildProgress } from '../build-options.ts';
import type { Terminal } from './terminal.ts';

export interface ProgressLine {
  update(event: BuildProgress): void;
  /** Ends the line; `message` stays on the terminal. */
  done(message: string): void;
  failed(): void;
}

export async function startProgress(terminal: Terminal, title: string): Promise<ProgressLine> {
  return terminal.interactive ? progressBar(title) : plainLines(terminal, title);
}

const BAR_STEPS = 100;

async function progressBar(title: string): Promise<ProgressLine> {
  const { progress } = await import('@clack/prompts');
  const bar = progress({ max: BAR_STEPS, size: 30, output: process.stderr });
  let shown = 0;
  bar.start(title);
  return {
    update: ({ stage, fraction }) => {
      const step = Math.round(fraction * BAR_STEPS) - shown;
      shown += step;
      bar.advance(step, `${title}: ${stage}`);
    },
    done: (message) => bar.stop(message),
    failed: () => bar.error(`${title}: failed`),
  };
}

function plainLines(terminal: Terminal, title: string): ProgressLine {
  let last = '';
  return {
    update: ({ stage, fraction }) => {
      if (stage === last) return;
      last = stage;
      terminal.note(`${title}: ${stage} (${Math.round(fraction * 100)} %)`);
    },
    done: (message) => terminal.note(message),
    failed: () => {},
  };
}
