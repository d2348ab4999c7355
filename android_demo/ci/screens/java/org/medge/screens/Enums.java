package org.medge.screens;

import java.io.File;
import java.util.HashMap;
import java.util.Map;
import javax.xml.parsers.DocumentBuilderFactory;
import org.w3c.dom.Element;
import org.w3c.dom.NodeList;

/** Numbers of the words that attributes may have, from the framework's attrs.xml. */
final class Enums {
    private Enums() {}

    static Map<String, Map<String, Integer>> of(File attributes) throws Exception {
        Map<String, Map<String, Integer>> all = new HashMap<>();
        NodeList found = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(attributes).getElementsByTagName("attr");
        for (int index = 0; index < found.getLength(); index++) {
            Element attribute = (Element) found.item(index);
            for (String kind : new String[] {"enum", "flag"}) {
                NodeList words = attribute.getElementsByTagName(kind);
                for (int word = 0; word < words.getLength(); word++) {
                    Element value = (Element) words.item(word);
                    all.computeIfAbsent(attribute.getAttribute("name"), unused -> new HashMap<>())
                        .put(value.getAttribute("name"), Long.decode(value.getAttribute("value")).intValue());
                }
            }
        }
        return all;
    }
}
