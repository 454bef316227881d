// A Node function that does what its event asks for.

import { createRequire } from 'node:module'
import os from 'node:os'

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

class OwnError extends Error {}

const ask = {
  echo: (event) => event.value,
  layer: () => createRequire(import.meta.url)('answer'),
  context: (event, context) => ({
    ...context,
    getRemainingTimeInMillis: context.getRemainingTimeInMillis(),
    members: Object.keys(context).sort(),
    trace: process.env._X_AMZN_TRACE_ID,
  }),
  environment: () => process.env,
  process: () => ({ uid: process.getuid(), cwd: process.cwd(), flags: process.execArgv, exe: process.execPath }),
  user: () => os.userInfo().username,
  circle: () => {
    const circle = {}
    circle.self = circle
    return circle
  },
  type: () => { throw new TypeError('x') },
  own: () => { throw new OwnError('y') },
  reject: async () => { Promise.reject(new Error('nobody listens')); await sleep(5000) },
  hang: () => new Promise(() => {}),
  timer: async (event, context) => {
    let fired = false
    const timer = setTimeout(() => { fired = true }, context.getRemainingTimeInMillis())
    await sleep(event.ms)
    clearTimeout(timer)
    return fired
  },
}

export const handler = async (event, context) => ask[event.do](event, context)

export const callback = (event, context, done) => { setTimeout(() => done(null, event.value), 10) }

export const stream = awslambda.streamifyResponse(async (event, out) => {
  out.write('first,')
  await sleep(event.ms)
  out.write('second')
  await sleep(event.ms)
  if (event.throw) throw new RangeError('in the middle')
  if (event.die) process.kill(process.pid, 'SIGKILL')
  out.end()
})
