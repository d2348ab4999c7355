package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonElement
import com.google.gson.JsonNull
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser
import com.google.gson.JsonPrimitive

/** Parse JSON; null where it is none. Numbers keep the digits they were written with. */
internal fun parseJson(text: String): JsonElement? =
    try {
        JsonParser.parseString(text)
    } catch (_: JsonParseException) {
        null
    } catch (_: NumberFormatException) {
        null
    } catch (_: StackOverflowError) { // thousands of nested brackets
        null
    }

internal fun JsonObject.text(name: String): String? = (get(name) as? JsonPrimitive)?.takeIf { it.isString }?.asString

internal fun JsonObject.number(name: String): Double? = (get(name) as? JsonPrimitive)?.takeIf { it.isNumber }?.asDouble

internal fun JsonObject.long(name: String): Long? = number(name)?.toLong()

internal fun JsonObject.int(name: String): Int? = number(name)?.toInt()

internal fun JsonObject.flag(name: String): Boolean? = (get(name) as? JsonPrimitive)?.takeIf { it.isBoolean }?.asBoolean

internal fun JsonObject.child(name: String): JsonObject? = get(name) as? JsonObject

internal fun JsonObject.list(name: String): JsonArray? = get(name) as? JsonArray

/**
 * JSON exactly as Python's `json.dumps(value, sort_keys=True)` writes it, which is what the manifest's digest is taken of.
 *
 * Numbers are written with the digits they were read with: a manifest is written by the same function, so they are Python's.
 */
internal fun pythonJson(value: JsonElement): String = StringBuilder().also { write(value, it) }.toString()

private fun write(value: JsonElement, out: StringBuilder) {
    when (value) {
        is JsonNull -> out.append("null")
        is JsonArray -> {
            out.append('[')
            value.forEachIndexed { index, item ->
                if (index > 0) out.append(", ")
                write(item, out)
            }
            out.append(']')
        }
        is JsonObject -> {
            out.append('{')
            value.keySet().sorted().forEachIndexed { index, key ->
                if (index > 0) out.append(", ")
                quote(key, out)
                out.append(": ")
                write(value.get(key), out)
            }
            out.append('}')
        }
        is JsonPrimitive -> if (value.isString) quote(value.asString, out) else out.append(value.asString)
        else -> throw IllegalArgumentException("no JSON: $value")
    }
}

private fun quote(text: String, out: StringBuilder) {
    out.append('"')
    for (char in text) {
        when (char) {
            '"' -> out.append("\\\"")
            '\\' -> out.append("\\\\")
            '\n' -> out.append("\\n")
            '\r' -> out.append("\\r")
            '\t' -> out.append("\\t")
            '\b' -> out.append("\\b")
            '\u000c' -> out.append("\\f")
            else -> if (char in ' '..'~') out.append(char) else out.append("\\u").append(char.code.toString(16).padStart(4, '0'))
        }
    }
    out.append('"')
}
