package org.medge.core

import com.google.gson.JsonArray
import com.google.gson.JsonElement
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
