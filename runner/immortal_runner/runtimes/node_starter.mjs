// Starts version 3 of AWS's Node runtime client, which is a library, as the managed runtime does.

import { run } from './client.mjs'

await run(process.env.LAMBDA_TASK_ROOT, process.env._HANDLER)
