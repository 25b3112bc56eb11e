// Commands from the test, one JSON object a line; each is answered with one line.

import { createInterface } from "node:readline";

/** Answers the test. */
export function tell(value) {
  process.stdout.write(`${JSON.stringify(value ?? null)}\n`);
}

/** Carries out commands as they come; one that waits holds up none that comes after it. */
export function obey(commands) {
  createInterface({ input: process.stdin }).on("line", async (line) => {
    const { do: name, ...given } = JSON.parse(line);
    try {
      const answer = await commands[name](given);
      if (answer !== undefined) tell(answer);
    } catch (error) {
      tell({ bug: `${name}: ${error.stack}` });
    }
  });
}
