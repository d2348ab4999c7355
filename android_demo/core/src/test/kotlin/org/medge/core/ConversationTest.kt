package org.medge.core

import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.File

class ConversationTest {
    private val folder = temporaryFolder()
    private val file = File(folder, "conversation.json")

    @Test
    fun anAnswerThatTheSystemCutOffIsThereAgain() {
        val image = File(folder, "image.png").apply { writeText("x") }
        Conversation(file).apply {
            ask("Is there a fracture?", image)
            write("There is", complete = false)
            save() // what the app does when it goes to the background
        }
        val again = Conversation(file) // a new process
        assertEquals(listOf("Is there a fracture?", "There is"), again.turns.map { it.text })
        assertEquals(image.name, again.turns[0].image!!.name)
        assertTrue(again.resumable)
        again.write("There is none.", complete = true)
        assertFalse(Conversation(file).resumable)
    }

    @Test
    fun noMoreThanAFewPiecesAreLostWithoutAnyWarning() {
        val conversation = Conversation(file)
        conversation.ask("Why?", null)
        for (count in 1..20) conversation.write("x".repeat(count), complete = false)
        assertTrue(Conversation(file).turns.last().text.length >= 16)
    }

    @Test
    fun clearingLeavesNothingBehind() {
        val image = File(folder, "image.png").apply { writeText("x") }
        Conversation(file).apply {
            ask("?", image)
            clear()
        }
        assertFalse(file.exists())
        assertFalse(image.exists())
        assertTrue(Conversation(file).turns.isEmpty())
    }

    @Test
    fun aDamagedFileOrALostImageStartsAfresh() {
        file.writeText("[{\"user\": true, \"text\": \"a\", \"image\": \"gone.png\"}, 7]")
        val turn = Conversation(file).turns.single()
        assertNull(turn.image)
        file.writeText("[[[")
        assertTrue(Conversation(file).turns.isEmpty())
    }

    @Test
    fun charactersAreShownWhole() {
        val bytes = "aé漢😀".toByteArray()
        val shown = (0..bytes.size).map { Chat.wholeCharacters(bytes.copyOf(it)) }
        assertEquals(listOf("", "a", "a", "aé", "aé", "aé", "aé漢", "aé漢", "aé漢", "aé漢", "aé漢😀"), shown)
    }
}
