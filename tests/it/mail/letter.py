"""Says what Python's mail library reads of a message on standard input, as JSON."""

import email
import email.policy
import json
import re
import sys

message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)


def tree(part):
    if part.is_multipart():
        return {part.get_content_type(): [tree(it) for it in part.iter_parts()]}
    return part.get_content_type()


parts = [it for it in message.walk() if not it.is_multipart()]
html = next(it for it in parts if it.get_content_type() == "text/html" and not it.is_attachment())
text = next(it for it in parts if it.get_content_type() == "text/plain")
content = html.get_content()
files = [it for it in parts if it.is_attachment()]
print(json.dumps(dict(
    headers={name.lower(): value for name, value in message.items()},
    defects=[str(it) for part in message.walk() for it in part.defects],
    tree=tree(message),
    html=content,
    html_bytes=len(content.encode()),
    longest_line=max(map(len, message.as_bytes().splitlines())),
    text=text.get_content(),
    wanted=re.findall(r'src="cid:([^"]+)"', content),
    images={it["content-id"].strip("<>"): dict(bytes=len(it.get_content()), head=list(it.get_content()[:8]), how=it.get_content_disposition()) for it in parts if it.get_content_type() == "image/png"},
    remote=re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?(https?:[^"\')]+)', content),
    files=[dict(name=it.get_filename(), type=it.get_content_type(), bytes=len(it.get_content())) for it in files],
)))
