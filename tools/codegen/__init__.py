"""The generator of `barnabas.wire.messages`: Kafka's message definitions in, flat Python codecs out.

Apache Kafka describes each message once, in JSON files that travel inside its published jars. This
package reads them there, at generation time only, and writes one module per API. Nothing of Kafka's prose
is carried over: names, types, versions, tags and defaults are.

    python -m tools.codegen            fetch the jars with Maven (tools/codegen/pom.xml) and regenerate
    python -m tools.codegen --check    say whether the committed files are what the definitions give

Reading order: `definitions` (jars to plain dictionaries), `schema` (dictionaries to a model, and the lower
versions of an older Kafka merged into it), `messages` (which jars, which versions), `source` (Python under
construction), `decoding` and `encoding` (a function per wire layout), `classes` (a class per message),
`package` (which file holds what), `__main__`.
"""
