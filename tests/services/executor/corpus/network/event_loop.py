# An asyncio event loop, which needs a socket pair; whether it works or not, it must stay inside.
# expect: ok exception
import asyncio
async def main():
    await asyncio.sleep(0)
    try:
        await asyncio.open_connection("127.0.0.1", 22)
        print("LEAKED")
    except OSError:
        print("refused")
asyncio.run(main())
