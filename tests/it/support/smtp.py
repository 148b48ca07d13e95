"""A real mail server, aiosmtpd, that can be told to refuse, to wait and to hang up: smtp.py FOLDER MODE.

MODE is plain, starttls or tls. FOLDER holds server.pem and server.key. What it takes is FOLDER/taken/N.eml; what happens is a
line of FOLDER/log. FOLDER/orders is read at each step: `STEP ANSWER` (an answer to give, or `hang`, `wait` for FOLDER/go, `cut` or `keep-cut`), with
`STEP ANSWER once` for the first time only.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session, syntax

folder, mode = Path(sys.argv[1]), sys.argv[2]
taken = folder / "taken"
taken.mkdir(exist_ok=True)
USER, PASSWORD = b"reporter", "s\u00e9same/öffne dich".encode()


def note(**event):
    with open(folder / "log", "a") as log:
        log.write(json.dumps(event) + "\n")


def order(step):
    path = folder / "orders"
    lines = path.read_text().splitlines() if path.exists() else []
    for idx, line in enumerate(lines):
        words = line.split(" ", 1)
        if words[0] == step:
            answer = words[1]
            if answer.endswith(" once"):
                answer = answer.removesuffix(" once")
                path.write_text("\n".join(lines[:idx] + lines[idx + 1 :]))
            return answer
    return None


class Cut(Exception):
    pass


class Handler:
    async def obey(self, server, step):
        """What to answer instead; none to go on."""
        answer = order(step)
        note(step=step, answer=answer)
        if answer == "hang":
            await asyncio.sleep(3600)
        if answer == "wait":
            while not (folder / "go").exists():
                await asyncio.sleep(0.02)
            return None
        if answer == "cut":
            server.transport.abort()
            raise Cut
        return answer

    async def handle_EHLO(self, server, session: Session, envelope: Envelope, hostname, responses):
        session.host_name = hostname
        await self.obey(server, "ehlo")
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if answer := await self.obey(server, "mail"):
            return answer
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if answer := await self.obey(server, "rcpt"):
            return answer
        if address.startswith("nobody"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("full") and not (folder / "emptied").exists():
            return "452 4.2.2 mailbox full"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if (answer := await self.obey(server, "body")) and not answer.startswith("keep"):
            return answer
        n = len(list(taken.iterdir()))
        (taken / f"{n}.eml").write_bytes(envelope.content)
        note(step="taken", to=envelope.rcpt_tos, sender=envelope.mail_from, user=session.auth_data, tls=server.transport.get_extra_info("sslcontext") is not None)
        if answer == "keep-cut":
            server.transport.abort()
            raise Cut
        await self.obey(server, "reply")
        return f"250 2.0.0 queued as {n}"


class Server(SMTP):
    @syntax("DATA")
    async def smtp_DATA(self, arg):
        if self.envelope.rcpt_tos and (answer := await self.event_handler.obey(self, "data")):
            if answer == "354-cut":
                await self.push("354 go on")
                await asyncio.sleep(0.05)
                self.transport.abort()
                return
            await self.push(answer)
            return
        await super().smtp_DATA(arg)


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == USER and data.password == PASSWORD
    note(step="auth", good=good)
    return AuthResult(success=good, handled=good, auth_data=data.login.decode())


async def main():
    context = None
    if mode != "plain":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")

    def session():
        options = dict(hostname="localhost", enable_SMTPUTF8=True, data_size_limit=40_000_000)
        if mode != "plain":
            options |= dict(authenticator=authenticate, auth_required=True, auth_require_tls=mode == "starttls")
        if mode == "starttls":
            options |= dict(tls_context=context, require_starttls=True)
        return Server(Handler(), **options)

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    port = folder / "port.new"
    port.write_text(str(server.sockets[0].getsockname()[1]))
    port.rename(folder / "port")
    await server.serve_forever()


asyncio.run(main())
