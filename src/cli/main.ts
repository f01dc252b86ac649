#!/usr/bin/env node
/**
 * The command line: one file a command, this one only names them and turns errors into exit codes.
 *
 * 0 done; 1 the job failed or a check did not hold; 2 the call, the model or a file is wrong. Errors go to stderr as one message with
 * a hint, and a stack only where DEBUG is set. The names of commands, options and JSON fields are a contract: scripts rely on them.
 */
import { Command, CommanderError } from 'commander';
import { ModelError } from '../core/errors.ts';
import { debugLevel } from '../core/knobs.ts';
import { VERSION } from '../core/version.ts';
import { addBenchCommand } from './bench.ts';
import { addBuildCommand } from './build.ts';
import { addClassifyCommand } from './classify.ts';
import { addCompareCommand } from './compare.ts';
import { addDemoCommand } from './demo.ts';
import { addDevicesCommand } from './devices.ts';
import { addInspectCommand } from './inspect.ts';
import { addRunCommand } from './run.ts';

const COMMANDS = [
  addBuildCommand,
  addRunCommand,
  addBenchCommand,
  addCompareCommand,
  addClassifyCommand,
  addInspectCommand,
  addDevicesCommand,
  addDemoCommand,
];

const FAILED = 1;
const WRONG_CALL = 2;

function createProgram(): Command {
  const program = new Command('hotrod')
    .description('Deep-learning inference: a model in, an engine out, run on what the machine has')
    .version(VERSION)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError();
  for (const add of COMMANDS) add(program);
  return program;
}

/** Says what went wrong, once, on stderr. Returns the exit code. */
function reportError(error: unknown): number {
  // Commander has written its message already; --help and --version end here too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_CALL;
  const isModelError = error instanceof ModelError;
  const lines = [`error: ${error instanceof Error ? error.message : String(error)}`];
  if (isModelError) {
    for (const detail of error.details) if (!error.message.includes(detail)) lines.push(`  ${detail}`);
    if (error.hint !== undefined) lines.push(`hint: ${error.hint}`);
  }
  if (debugLevel() > 0 && error instanceof Error) lines.push(error.stack ?? '');
  else if (!isModelError) lines.push('hint: set DEBUG=1 to see where this comes from');
  process.stderr.write(`${lines.join('\n')}\n`);
  return isModelError ? WRONG_CALL : FAILED;
}

// A reader that has seen enough (`hotrod inspect model.onnx | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : FAILED));

try {
  await createProgram().parseAsync();
} catch (error) {
  // Threads of an engine that was open would keep the process alive.
  process.exit(reportError(error));
}
